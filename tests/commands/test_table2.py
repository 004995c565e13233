import shutil
import signal
import sys
import time
from dataclasses import asdict
from functools import cache
from itertools import product
from types import SimpleNamespace

import pytest
import yaml
from skip_exp.report.grid import Grid

from skip_exp import results
from skip_exp.cache.version import job_code, parts_code
from skip_exp.commands import table2
from skip_exp.config import schema
from skip_exp.config.together import job_config
from skip_exp.errors import SkipError
from skip_exp.report import frame
from skip_exp.report import grid as grids
from skip_exp.report.reconstruction import REHEARSAL, caption, rows, to_latex, to_markdown
from skip_exp.utils import hub
from tests.helpers.fakes import result, store

SWEEPS = schema.sweep_dir()
SWEEP = """
defaults: [config, _self_]
tune: {epochs: 2}
hydra:
  mode: MULTIRUN
  sweeper:
    params: {backbone: minilm, +task: "sst2,rte", seed: "1,2", prune.ratio: "0.3,0.5"}
"""
composed = cache(grids.composed)  # a quarter of a second each; the sweep is the same in all tests


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A sweep of eight jobs in place of the real ones; no hub, no local data."""
    folder = tmp_path / "sweeps"
    folder.mkdir()
    for name in ("table2", "table2_offline", "table2_embedded"):
        (folder / f"{name}.yaml").write_text(SWEEP)
    monkeypatch.setattr(schema, "sweep_dir", lambda: folder)
    # The three files are the same, and SKIP_EXP_DATA is no setting that is compared.
    monkeypatch.setattr(grids, "composed", lambda _, given: composed("table2", tuple(given)))
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    monkeypatch.setattr(table2, "is_cached", lambda *_: False)
    monkeypatch.delenv("SKIP_EXP_DATA", raising=False)
    return tmp_path


def local(folder, monkeypatch, *tasks):
    for task in tasks or ("sst2", "rte"):
        (folder / "data" / task).mkdir(parents=True)
    monkeypatch.setenv("SKIP_EXP_DATA", str(folder / "data"))


def grid(source="local"):
    return grids.read("table2_offline", source, about="because")


def answer(job, overrides=(), **fields):
    given = (f"+task={job.task}", "backbone=minilm", *(overrides or ["data.source=local"]))
    asked = job_config(grids.composed("table2_offline", given))
    config = asdict(decided(asked, rows=2000, start=None))  # as a job writes it
    code = {"code": job_code(), "parts": parts_code(*results.parts(config))}
    given = {"config": config, "versions": code} | fields
    return result(job.task, job.backbone, job.ratio, job.seed, **given)


def loaded(found):
    return frame.ordered(frame.rows(found))


def jobs(of):
    return [SimpleNamespace(**job) for job in of.to_dict("records")]


@pytest.fixture
def every(small):
    """The jobs of the sweep."""
    return jobs(grid().jobs)


def test_every_sweep_file_says_how_to_run_it():
    files = sorted(SWEEPS.glob("*.yaml"))
    assert {"smoke", "ratios", "table2", "table2_offline"} <= {file.stem for file in files}
    for file in files:
        text = file.read_text()
        head = text.split("defaults:")[0]
        assert f"python -m skip_exp --config-name {file.stem}\n" in head
        assert "Cost:" in head
        sweep = yaml.safe_load(text)["hydra"]
        assert sweep["mode"] == "MULTIRUN"


def test_the_grids_of_the_table():
    grid = grids.read("table2_offline", "hub")
    assert [list(grid.jobs[name].unique()) for name in grids.JOB] == [
        *(["sst2", "mrpc"], ["minilm", "roberta_mini", "t5_mini"], [0.52, 0.9], [1, 2, 3]),
    ]
    assert grids.swept("table2") == {
        "task": ["sst2", "mrpc", "rte", "cola", "qnli", "boolq"],
        "backbone": ["bert_base", "roberta_base", "t5_base"],
        **{"prune.ratio": ["0.3", "0.52", "0.67", "0.7"], "seed": ["1", "2", "3"]},
    }


def test_grid_of_a_sweep(small):
    found = grids.read("table2_offline", "hub", ["trainer=cpu"])
    points = [list(job) for job in product(["sst2", "rte"], ["minilm"], [0.3, 0.5], [1, 2])]
    assert found.jobs.to_numpy().tolist() == points
    assert found.heads == {"sst2": "sst2 (accuracy)", "rte": "rte (accuracy)"}
    settings = found.settings["sst2", "minilm"][0]
    assert (settings["attribution"], settings["tune.epochs"]) == ("activation_gradient", "2")
    overrides = ["trainer=cpu", "data.source=hub"]
    assert found.command[-4:] == ["--config-name", "table2_offline", *overrides]


def test_answers_are_results_with_the_same_settings(every):
    job, *others = every
    good = answer(job)
    strange = SimpleNamespace(**vars(job) | {"ratio": 0.9})
    strangers = [
        answer(job, ["tune.epochs=3"], job_id="a"),
        answer(job, attribution="random", job_id="b"),
        answer(strange, job_id="c"),
        answer(job, data_source="embedded:banking77", job_id="d"),
        answer(job, data_is_sample=True, data_source="embedded:snli_pairs", job_id="g"),
        answer(job, data_source="hub:glue", job_id="e"),
        good | {"task": None, "job_id": "f"},
    ]

    def answering(found, source):
        return list(grid(source).answers(loaded(found))["job_id"])

    assert answering([good, *strangers], "local") == [good["job_id"]]
    assert answering([good, *strangers], "embedded") == ["d"]
    assert answering([good, *strangers], "hub") == ["e"]
    place = ["trainer.progress=false", "logger=none", "data.dir=/elsewhere"]
    same = answer(job, place, data_hash="abc")
    assert same["config"] != good["config"]
    assert answering([same], "local") == [same["job_id"]]
    assert jobs(grid().remaining(loaded([good]))) == others
    assert len(grid().remaining(loaded([good | {"status": "failed"}]))) == len(every)


def test_a_job_that_failed_before_it_decided_is_an_answer(every):
    job = every[0]
    given = ("data.source=local", f"+task={job.task}", "backbone=minilm")
    asked = asdict(job_config(grids.composed("table2_offline", given)))
    assert asked["tune"]["train"] == "auto"
    early = answer(job, config=asked, status="failed", job_id="early")
    other = asked | {"tune": asked["tune"] | {"epochs": 9}}
    late = answer(job, config=other, status="failed", job_id="late")
    assert list(grid().answers(loaded([early, late]))["job_id"]) == ["early"]


def test_results_of_other_code_stand_in_until_their_jobs_are_done_again(every):
    first, second, *_ = every
    old = [answer(job, versions={"code": "other"}, job_id="old") for job in every]
    new = answer(first, job_id="new")
    answers = grid().answers(loaded([*old, new]))
    assert sorted(answers["job_id"]) == ["new"] + ["old"] * 7
    assert jobs(grid().remaining(answers)) == every[1:]
    text = caption(grid(), answers)
    assert "OUTDATED: 7" in text and "INCOMPLETE: 7 of 8" in text
    failed = answer(second, status="failed", metric={}, job_id="failed")
    assert sorted(grid().answers(loaded([*old, failed]))["job_id"]) == ["failed"] + ["old"] * 8
    code = {"code": job_code(), "parts": "of another attribution"}
    assert "OUTDATED: 1" in caption(grid(), loaded([answer(first, versions=code)]))
    assert "OUTDATED" not in caption(grid(), loaded([new]))


@pytest.mark.parametrize("override", ["seed=4", "+task=cola", "prune.ratio=0.1", "tune.epoch=1"])
def test_swept_and_unknown_keys_are_refused(small, override):
    with pytest.raises(SkipError, match=override.partition("=")[0].removeprefix("+")):
        grids.read("table2_offline", "hub", [override])


def test_the_profile_and_the_data_follow_from_what_is_reachable(small, monkeypatch):
    def chosen(profile):
        grid = table2.plan(profile, [])
        return grid.name, grid.source, grid.is_rehearsal

    rehearsal = ("table2_embedded", "embedded", True)
    assert chosen("auto") == chosen("offline") == rehearsal
    assert chosen("paper") == ("table2", "hub", False)  # never on embedded rows
    local(small, monkeypatch, "sst2")
    assert chosen("auto") == rehearsal
    with monkeypatch.context() as cached:
        cached.setattr(table2, "is_cached", lambda *_: True)
        assert chosen("auto") == ("table2_offline", "hub", False)
    with monkeypatch.context() as reachable:
        reachable.setattr(hub, "hub_reachable", lambda: True)
        assert chosen("auto") == ("table2", "hub", False)
        assert chosen("offline") == ("table2_offline", "hub", False)
    (small / "data" / "rte").mkdir()
    assert chosen("auto") == ("table2_offline", "local", False)


def test_rows(every):
    scores = {"name": "accuracy", "dense": 0.8, "pruned": 0.6, "final": 0.79}
    answers = [
        answer(job, metric=scores, params={"block_pruned": 0.301, "all_pruned": 0.14},
               latency={"speedup": 1.5 if job.task == "sst2" else 1.3})
        for job in every
        if job.ratio == 0.3 and (job.task, job.seed) != ("rte", 2)
    ]  # fmt: skip
    answers[2]["metric"] = scores | {"dense": 0.55, "final": 0.6}
    failed = answer(every[2], status="failed", metric={})
    head = {"backbone": "minilm", "ratio": "dense", "block %": "0.0", "all %": "0.0"}
    assert rows(grid(), loaded([*answers, failed])).to_dict("records") == [
        head
        | {
            "speed-up": "1.00x",
            "sst2 (accuracy)": "80.0 ± 0.0",
            "rte (accuracy)": "55.0 (at chance, 1 of 2 seeds)",
        },
        {
            **{"backbone": "minilm", "ratio": "0.3", "block %": "30.1", "all %": "14.0"},
            "speed-up": "1.40x (1.30 to 1.50)",
            "sst2 (accuracy)": "79.0 ± 0.0",
            "rte (accuracy)": "60.0 (at chance, 1 of 2 seeds)",
        },
        {
            **{"backbone": "minilm", "ratio": "0.5", "block %": "-", "all %": "-"},
            **{"speed-up": "-", "sst2 (accuracy)": "failed", "rte (accuracy)": "missing"},
        },
    ]
    noise = {"latency": {"speedup": 1.5, "contended": True}, "flops": {"ratio": 1.94}}
    loud = [each | noise for each in answers]
    assert list(rows(grid(), loaded(loud))["speed-up"]) == ["1.00x", "~1.9x FLOPs", "-"]


def test_precisions_are_lines_of_their_own(every):
    precision = {1: "bf16-mixed", 2: "32-true"}
    answers = grid().answers(loaded([answer(j, precision=precision[j.seed]) for j in every]))
    assert len(grid().remaining(answers)) == 0  # the sweep leaves the precision open
    assert list(rows(grid(), answers)["variant"]) == [
        *["trainer.precision=32-true"] * 3,
        *["trainer.precision=bf16-mixed"] * 3,
    ]


def test_caption(every):
    timing = {"batch": 32, "seq_len": 128, "dtype": "float32", "device": "cpu", "threads": 2}
    text = caption(grid(), loaded([answer(every[0], latency=timing | {"speedup": 2})]))
    assert text.startswith("Table 2, reconstructed.") and "not a copy" in text
    for part in ("because.", "batch 32, 128 tokens, float32, cpu, 2 threads", "INCOMPLETE: 7 of 8"):
        assert part in text


def test_a_rehearsal_is_never_titled_table_2(small):
    view = grid("embedded"), loaded([])
    for text in (to_markdown(*view), to_latex(*view)):
        assert REHEARSAL in text and "table 2" not in text.lower()
    assert text.count("&") == 4 * 6 and r"sst2 (accuracy)" in text
    assert text.count(r"\begin{tabular}{lrrrrrr}") == 1


def made(every, folder, **fields):
    """Results as the sweep would write them, in a folder of their own."""
    return store(folder, [answer(job, **fields) for job in every])


def run(small, monkeypatch, code, *more):
    """The command, whose sweep is Python code."""
    monkeypatch.setattr(Grid, "command", [sys.executable, "-c", code])
    monkeypatch.chdir(small)  # results of the checkout's own jobs are in ./outputs
    return table2.main(["--results", str(small / "outputs"), "--out", str(small / "t2"), *more])


@pytest.mark.parametrize("count", [8, 5])
def test_runs_the_sweep_and_writes_the_table(small, every, monkeypatch, capsys, count):
    local(small, monkeypatch)
    source = str(made(every[:count], small / "made"))
    copy = f"import shutil; shutil.copytree({source!r}, {str(small / 'outputs')!r})"
    assert run(small, monkeypatch, copy) == int(count < 8)
    shown = capsys.readouterr().out.splitlines()
    assert "table2_offline: 0 of 8 jobs done" in shown
    assert f"table2_offline: {count} of 8 jobs done" in shown
    text = (small / "t2" / "table2.md").read_text()
    assert text.startswith("# Table 2, reconstructed")
    assert ("missing" in text) == ("INCOMPLETE: 3 of 8 jobs" in text) == (count < 8)
    assert (small / "t2" / "table2.tex").is_file()


def test_its_own_jobs_count_wherever_earlier_results_are(small, every, monkeypatch):
    local(small, monkeypatch)
    copy = f"import shutil; shutil.copytree({str(made(every, small / 'made'))!r}, 'outputs/today')"
    assert run(small, monkeypatch, copy, "--results", str(small / "old")) == 0


@pytest.mark.parametrize(
    ("name", "wait"),
    [("SIGINT", 0.3), ("SIGTERM", 60)],  # SIGTERM reaches this process alone: it ends the sweep
)
def test_interrupted_still_writes_the_table(small, every, monkeypatch, name, wait):
    local(small, monkeypatch)
    made(every[:2], small / "outputs")
    code = f"import os, signal, time; os.kill(os.getppid(), signal.{name}); time.sleep({wait})"
    # A shell has its background jobs ignore Ctrl-C, and so would the tests among them.
    signals = (signal.SIGINT, signal.SIGTERM)  # the command line sets the second
    before = [signal.signal(each, signal.default_int_handler) for each in signals]
    start = time.monotonic()
    try:
        assert run(small, monkeypatch, code) == 130
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
    assert time.monotonic() - start < 30
    assert "INCOMPLETE: 6 of 8" in (small / "t2" / "table2.md").read_text()


def test_a_rehearsal_goes_to_a_folder_of_its_own(small, every, monkeypatch, capsys):
    shutil.move(made(every, small / "made", data_source="embedded:banking77"), small / "outputs")
    assert run(small, monkeypatch, "") == 0
    shown = capsys.readouterr().out
    assert "rehearsal" in shown.splitlines()[1] and "running:" not in shown  # all is done
    assert not (small / "t2").exists()
    assert "table 2" not in (small / "t2-rehearsal" / "table2.md").read_text().lower()


def test_the_table_is_written_again_from_compact_results(small, every, monkeypatch, capsys):
    local(small, monkeypatch)
    compact = frame.to_compact(frame.load([made(every[:7], small / "made")]))
    (small / "results.csv").write_text(compact)
    for name, source in (("a", small / "made"), ("b", small / "results.csv")):
        paths = ["--results", str(source), "--out", str(small / name)]
        assert run(small, monkeypatch, "", "--no-run", *paths) == 1
    assert "running:" not in capsys.readouterr().out
    assert (small / "a" / "table2.md").read_text() == (small / "b" / "table2.md").read_text()
