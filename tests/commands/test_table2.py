import json
import os
import shutil
import signal
import sys
import time
from functools import cache
from itertools import product
from types import SimpleNamespace

import pytest
import yaml

from skip_exp.cache.versions import job_code
from skip_exp.commands import table2
from skip_exp.config import schema
from skip_exp.errors import DataError, SkipError
from skip_exp.report import frame
from skip_exp.report import grid as grids
from skip_exp.report.reconstruction import REHEARSAL, Plan, caption, rows, to_latex
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


compose = cache(grids.composed)  # a quarter of a second each; the sweep is the same in all tests


def composed_once(name, overrides):
    data = os.environ.get("SKIP_EXP_DATA")
    if data:
        return compose(name, (*overrides, f"data.dir={data}"))
    return compose(name, tuple(overrides))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A sweep of eight jobs in place of the real ones; no hub, no local data."""
    folder = tmp_path / "sweeps"
    folder.mkdir()
    for name in ("table2", "table2_offline", "table2_embedded"):
        (folder / f"{name}.yaml").write_text(SWEEP)
    monkeypatch.setattr(schema, "sweep_dir", lambda: folder)
    monkeypatch.setattr(grids, "composed", composed_once)
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    monkeypatch.delenv("SKIP_EXP_DATA", raising=False)

    def nothing_cached(_):
        raise DataError("not cached")

    monkeypatch.setattr(table2, "load_from_hub", nothing_cached)
    return tmp_path


def reachable(monkeypatch):
    monkeypatch.setattr(hub, "hub_reachable", lambda: True)


def local(folder, monkeypatch, *tasks):
    for task in tasks:
        (folder / "data" / task).mkdir(parents=True)
    monkeypatch.setenv("SKIP_EXP_DATA", str(folder / "data"))


def config(task, overrides=()):
    """Of a job of `small`'s sweep; a new one each time."""
    job = (f"+task={task}", "backbone=minilm", *overrides)
    return json.loads(json.dumps(grids.composed("table2_offline", job)))


def answer(job, overrides=(), **fields):
    given = {"config": config(job.task, overrides), "versions": {"code": job_code()}} | fields
    return result(job.task, job.backbone, job.ratio, job.seed, **given)


def loaded(found):
    return frame.ordered(frame.rows(found))


def jobs(grid):
    return [SimpleNamespace(**job) for job in grid.jobs.to_dict("records")]


def vars_of(remaining):
    return remaining.to_dict("records")


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


@pytest.mark.parametrize(
    ("name", "backbones", "tasks", "ratios"),
    [
        (
            "table2",
            "bert_base roberta_base t5_base",
            "sst2 mrpc rte cola qnli boolq",
            [0.3, 0.52, 0.67, 0.7],
        ),
        ("table2_offline", "minilm roberta_mini t5_mini", "sst2 mrpc", [0.52, 0.9]),
    ],
)
def test_the_grids_of_the_table(name, backbones, tasks, ratios):
    grid = grids.read(name)
    columns = [list(grid.jobs[name].unique()) for name in grids.JOB]
    assert columns == [tasks.split(), backbones.split(), ratios, [1, 2, 3]]


def test_grid_of_a_sweep(small):
    grid = grids.read("table2_offline")
    every = [list(job) for job in product(["sst2", "rte"], ["minilm"], [0.3, 0.5], [1, 2])]
    assert grid.jobs.to_numpy().tolist() == every
    assert list(grid.task_configs) == ["sst2", "rte"]
    settings = grid.settings["sst2", "minilm"]
    assert (settings["attribution"], settings["tune.epochs"]) == ("activation_gradient", "2")


def test_answers_are_results_with_the_same_settings(small):
    grid = grids.read("table2_offline")
    job, *others = jobs(grid)
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
        return list(grid.answers(loaded(found), source)["job_id"])

    assert answering([good, *strangers], "local") == [good["job_id"]]
    assert answering([good, *strangers], "embedded") == ["d"]
    assert answering([good, *strangers], "hub") == ["e"]
    assert answer(job, ["trainer.progress=false", "logger=none"])["config"] != good["config"]
    same = answer(job, ["trainer.progress=false", "logger=none", "data.dir=/elsewhere"])
    assert answering([same], "local") == [same["job_id"]]
    assert vars_of(grid.remaining(loaded([good]))) == list(map(vars, others))
    assert len(grid.remaining(loaded([good | {"status": "failed"}]))) == len(grid.jobs)


def test_results_of_other_code_stand_in_until_their_jobs_are_done_again(small):
    grid = grids.read("table2_offline")
    first, second, *_ = jobs(grid)
    old = [answer(job, versions={"code": "other"}, job_id="old") for job in jobs(grid)]
    new = answer(first, job_id="new")
    answers = grid.answers(loaded([*old, new]), "local")
    assert sorted(answers["job_id"]) == ["new"] + ["old"] * 7
    assert vars_of(grid.remaining(answers)) == list(map(vars, jobs(grid)[1:]))
    failed = answer(second, status="failed", metric={}, job_id="failed")
    answers = grid.answers(loaded([*old, failed]), "local")
    assert sorted(answers["job_id"]) == ["failed"] + ["old"] * 8
    text = caption(*table([*old[1:], new]))
    assert "OUTDATED: 7 results come from another version of the code." in text
    assert "INCOMPLETE: 7 of 8 jobs have no result of this version" in text
    assert "OUTDATED" not in caption(*table([new]))


@pytest.mark.parametrize("override", ["seed=4", "+task=cola", "prune.ratio=0.1"])
def test_swept_values_are_not_overridden(small, override):
    with pytest.raises(SkipError, match="sweeps over it"):
        grids.read("table2_offline", [override])


def test_a_misspelt_override_is_one_line(small):
    with pytest.raises(SkipError, match=r"^sweep table2_offline: [^\n]*epoch"):
        grids.read("table2_offline", ["tune.epoch=1"])


def test_a_sweep_over_something_else_is_refused(small):
    (small / "sweeps" / "table2.yaml").write_text(SWEEP.replace("seed", "tune.lr"))
    with pytest.raises(SkipError, match=r"backbone, task, tune\.lr"):
        grids.read("table2")


def test_auto_picks_by_what_is_reachable(small, monkeypatch):
    chosen = table2.plan("auto", [])
    assert (chosen.profile, chosen.source, chosen.rehearsal) == ("offline", "embedded", True)
    assert chosen.grid.name == "table2_embedded"
    assert "hub cannot be reached" in chosen.why and "SKIP_EXP_DATA" in chosen.why
    local(small, monkeypatch, "sst2", "rte")
    chosen = table2.plan("auto", ["trainer=cpu"])
    assert (chosen.profile, chosen.source, chosen.rehearsal) == ("offline", "local", False)
    assert chosen.command[-4:] == [
        *("--config-name", "table2_offline"),
        *("trainer=cpu", "data.source=local"),
    ]
    reachable(monkeypatch)
    chosen = table2.plan("auto", [])
    assert (chosen.profile, chosen.source, chosen.rehearsal) == ("paper", "hub", False)
    chosen = table2.plan("offline", [])
    assert (chosen.profile, chosen.source) == ("offline", "local")
    assert "--profile" in chosen.why


def test_data_that_is_not_all_local(small, monkeypatch):
    local(small, monkeypatch, "sst2")
    assert table2.plan("offline", []).source == "embedded"
    monkeypatch.setattr(table2, "load_from_hub", lambda _: None)
    assert table2.plan("offline", []).source == "hub"  # from its cache
    reachable(monkeypatch)
    assert table2.plan("offline", []).source == "hub"


def test_the_paper_profile_never_ends_on_embedded_rows(small):
    chosen = table2.plan("paper", [])
    assert (chosen.source, chosen.rehearsal) == ("hub", False)


def table(answers, rehearsal=False):
    source = "embedded" if rehearsal else "local"
    plan = Plan(grids.read("table2_offline"), "offline", "because", source, [])
    return plan, loaded(answers)


def test_rows(small):
    grid = grids.read("table2_offline")
    scores = {"name": "accuracy", "dense": 0.8, "pruned": 0.6, "final": 0.79}
    answers = [
        answer(job, metric=scores, params={"block_pruned": 0.301, "all_pruned": 0.14},
               latency={"speedup": 1.5 if job.task == "sst2" else 1.3})
        for job in jobs(grid)
        if job.ratio == 0.3 and (job.task, job.seed) != ("rte", 2)
    ]  # fmt: skip
    answers[2]["metric"] = scores | {"dense": 0.55, "final": 0.6}
    failed = answer(jobs(grid)[2], status="failed", metric={})
    head = {"backbone": "minilm", "ratio": "dense", "block %": "0.0", "all %": "0.0"}
    assert rows(*table([*answers, failed])).to_dict("records") == [
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


def test_precisions_are_lines_of_their_own(small):
    precision = {1: "bf16-mixed", 2: "32-true"}
    answers = [answer(j, precision=precision[j.seed]) for j in jobs(grids.read("table2_offline"))]
    plan, found = table(answers)
    answered = plan.grid.answers(found, "local")
    assert len(plan.grid.remaining(answered)) == 0  # the sweep leaves the precision open
    assert list(rows(plan, answered)["variant"]) == [
        *["trainer.precision=32-true"] * 3,
        *["trainer.precision=bf16-mixed"] * 3,
    ]


def test_contended_timings_are_no_speedup(small):
    loud = {"speedup": 1.5, "contended": True}
    answers = [answer(job, latency=loud) for job in jobs(grids.read("table2_offline"))]
    assert list(rows(*table(answers))["speed-up"]) == ["1.00x", "contended", "contended"]


def test_caption(small):
    timing = {"batch": 32, "seq_len": 128, "dtype": "float32", "device": "cpu", "threads": 2}
    answers = [answer(jobs(grids.read("table2_offline"))[0], latency=timing | {"speedup": 2})]
    text = caption(*table(answers))
    assert text.startswith("Table 2, reconstructed.") and "not a copy" in text
    assert "Profile offline: because." in text
    assert "batch 32, 128 tokens, float32, cpu, 2 threads" in text
    assert "INCOMPLETE: 7 of 8 jobs" in text


def test_a_rehearsal_is_never_titled_table_2(small):
    view = table([], rehearsal=True)
    for text in (table2.to_markdown(*view), to_latex(*view)):
        assert REHEARSAL in text and "table 2" not in text.lower()


def test_latex(small):
    text = to_latex(*table([]))
    assert text.count("&") == 4 * 6 and r"sst2 (accuracy)" in text
    assert text.count(r"\begin{tabular}{lrrrrrr}") == 1


def test_estimate(small):
    grid = grids.read("table2_offline")

    def taking(seconds, count=2):
        return loaded([answer(job, seconds={"total": seconds}) for job in jobs(grid)[:count]])

    assert table2.progress(grid, taking(90)) == "2 of 8 jobs done, 6 remain: about 9 min"
    assert table2.progress(grid, taking(3000)) == "2 of 8 jobs done, 6 remain: about 5.0 h"
    assert table2.progress(grid, taking(1)) == "2 of 8 jobs done, 6 remain: about a minute"
    assert table2.progress(grid, loaded([])).endswith("(Cost: in sweeps/table2_offline.yaml)")
    assert table2.progress(grid, taking(90, 8)) == "8 of 8 jobs done"


def made(small, count=8, **fields):
    """Results as the sweep would write them, in a folder of their own."""
    found = [answer(job, **fields) for job in jobs(grids.read("table2_offline"))]
    return store(small / "made", found[:count])


def command(small, monkeypatch, code):
    monkeypatch.setattr(Plan, "command", [sys.executable, "-c", code])


def run(small, *more):
    return table2.main(["--results", str(small / "outputs"), "--out", str(small / "t2"), *more])


COPY = (
    "import shutil, sys, time; shutil.copytree({made!r}, {to!r}); time.sleep(0.2); sys.exit({rc})"
)


def test_runs_the_sweep_and_writes_the_table(small, monkeypatch, capsys):
    local(small, monkeypatch, "sst2", "rte")
    source = str(made(small, 8))
    command(small, monkeypatch, COPY.format(made=source, to=str(small / "outputs"), rc=0))
    assert run(small) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "profile offline: the model hub cannot be reached; data: local folder"
    assert shown[1].startswith("table2_offline: 0 of 8 jobs done, 8 remain")
    assert "table2_offline: 8 of 8 jobs done" in shown
    text = (small / "t2" / "table2.md").read_text()
    assert text.startswith("# Table 2, reconstructed") and "missing" not in text
    assert (small / "t2" / "table2.tex").is_file()


def test_with_everything_done_nothing_is_run(small, monkeypatch, capsys):
    local(small, monkeypatch, "sst2", "rte")
    shutil.move(made(small), small / "outputs")
    command(small, monkeypatch, "raise SystemExit('was run')")
    assert run(small) == 0
    assert "running:" not in capsys.readouterr().out


def test_an_incomplete_sweep_shows_what_is_missing(small, monkeypatch):
    local(small, monkeypatch, "sst2", "rte")
    source = str(made(small, 5))
    command(small, monkeypatch, COPY.format(made=source, to=str(small / "outputs"), rc=1))
    assert run(small) == 1
    text = (small / "t2" / "table2.md").read_text()
    assert "missing" in text and "INCOMPLETE: 3 of 8 jobs" in text


def test_interrupted_still_writes_the_table(small, monkeypatch):
    local(small, monkeypatch, "sst2", "rte")
    shutil.move(made(small, 2), small / "outputs")
    code = f"import os, signal, time; os.kill(os.getppid(), {int(signal.SIGINT)}); time.sleep(0.3)"
    command(small, monkeypatch, code)
    # A shell has its background jobs ignore Ctrl-C, and so would the tests among them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(small) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "INCOMPLETE: 6 of 8" in (small / "t2" / "table2.md").read_text()


def test_a_sweep_that_was_not_told_of_the_interruption_is_ended(small, monkeypatch):
    local(small, monkeypatch, "sst2", "rte")
    code = f"import os, signal, time; os.kill(os.getppid(), {int(signal.SIGTERM)}); time.sleep(60)"
    command(small, monkeypatch, code)
    start = time.monotonic()
    assert run(small) == 130
    assert time.monotonic() - start < 30  # not the minute that the sweep sleeps
    assert "INCOMPLETE: 8 of 8" in (small / "t2" / "table2.md").read_text()


def test_a_rehearsal_goes_to_a_folder_of_its_own(small, monkeypatch, capsys):
    shutil.move(made(small, data_source="embedded:banking77"), small / "outputs")
    assert run(small) == 0
    assert not (small / "t2").exists()
    assert "table 2" not in (small / "t2-rehearsal" / "table2.md").read_text().lower()
    assert "rehearsal" in capsys.readouterr().out.splitlines()[1]


def test_the_table_is_written_again_from_compact_results(small, monkeypatch):
    local(small, monkeypatch, "sst2", "rte")
    found = frame.load([made(small)])
    (small / "results.csv").write_text(frame.to_compact(found))
    for name, source in (("a", small / "made"), ("b", small / "results.csv")):
        assert run(small, "--no-run", "--results", str(source), "--out", str(small / name)) == 0
    assert (small / "a" / "table2.md").read_text() == (small / "b" / "table2.md").read_text()


def test_no_run_only_writes(small, monkeypatch):
    command(small, monkeypatch, "raise SystemExit('was run')")
    assert run(small, "--no-run") == 1
    assert "missing" in (small / "t2-rehearsal" / "table2.md").read_text()


def test_refusals_are_one_line(small, capsys):
    assert run(small, "seed=3") == 1
    assert capsys.readouterr().err.count("\n") == 1
