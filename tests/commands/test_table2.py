import signal
import sys
import time

import pytest

from skip_exp.commands import table2
from skip_exp.config import schema
from skip_exp.errors import SkipError
from skip_exp.report.reconstruction import REHEARSAL, Plan, rows, to_latex, to_markdown
from skip_exp.utils import hub
from tests.helpers.fakes import failed, frame_of, result, store

SWEEPS = schema.sweep_dir()
SWEEP = """
defaults: [config, _self_]
tune: {epochs: 2}
hydra:
  mode: MULTIRUN
  sweeper:
    params: {backbone: minilm, +task: "sst2,rte", seed: "1,2", prune.ratio: "0.3,0.5"}
"""
ASKED = Plan(["sst2", "rte"], ["minilm"], [0.3, 0.5], [1, 2], "because")
JOBS = [tuple(job) for job in ASKED.jobs.to_numpy().tolist()]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A sweep of eight jobs in place of the real ones; no hub, no local data."""
    folder = tmp_path / "sweeps"
    folder.mkdir()
    for name in ("table2", "table2_offline", "table2_embedded"):
        (folder / f"{name}.yaml").write_text(SWEEP)
    monkeypatch.setattr(schema, "sweep_dir", lambda: folder)
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    monkeypatch.setattr(table2, "is_cached", lambda *_: False)
    monkeypatch.delenv("SKIP_EXP_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(found):
    return ASKED.answers(frame_of(found))


def answer(job, **fields):
    return result(*job, **fields)


def test_the_cells_of_the_papers_table():
    assert table2.swept("table2", []) == {
        "task": ["sst2", "mrpc", "rte", "cola", "qnli", "boolq"],
        "backbone": ["bert_base", "roberta_base", "t5_base"],
        **{"prune.ratio": ["0.3", "0.52", "0.67", "0.7"], "seed": ["1", "2", "3"]},
    }


def test_overrides_narrow_the_table_and_reach_the_sweep(small, tmp_path):
    planned = table2.plan("paper", ["seed=1", "+task=rte", "trainer=cpu"])
    assert planned.jobs.to_numpy().tolist() == [
        ["rte", "minilm", 0.3, 1],
        ["rte", "minilm", 0.5, 1],
    ]
    *_, name, one, other, third, source, place = table2.write_command(planned, tmp_path / "out")
    assert (name, one, other, third) == ("table2", "seed=1", "+task=rte", "trainer=cpu")
    assert source == "data.source=hub"
    assert place.startswith(f"hydra.sweep.dir={tmp_path}/out/jobs/")
    with pytest.raises(SkipError, match=r"tune\.epoch"):
        table2.plan("paper", ["tune.epoch=1"])


def test_the_profile_and_the_data_follow_from_what_is_reachable(small, monkeypatch):
    def chosen(profile):
        planned = table2.plan(profile, [])
        return planned.name, planned.overrides[-1], planned.is_rehearsal

    rehearsal = ("table2_embedded", "data.source=embedded", True)
    assert chosen("auto") == chosen("offline") == rehearsal
    assert chosen("paper") == ("table2", "data.source=hub", False)  # never on embedded rows
    (small / "data" / "sst2").mkdir(parents=True)
    monkeypatch.setenv("SKIP_EXP_DATA", str(small / "data"))
    assert chosen("auto") == rehearsal
    with monkeypatch.context() as cached:
        cached.setattr(table2, "is_cached", lambda *_: True)
        assert chosen("auto") == ("table2_offline", "data.source=hub", False)
    with monkeypatch.context() as reachable:
        reachable.setattr(hub, "hub_reachable", lambda: True)
        assert chosen("auto") == ("table2", "data.source=hub", False)
        assert chosen("offline") == ("table2_offline", "data.source=hub", False)
    (small / "data" / "rte").mkdir()
    assert chosen("auto") == ("table2_offline", "data.source=local", False)


def test_without_the_papers_data_nothing_runs(small, monkeypatch, capsys):
    monkeypatch.setattr(table2, "is_cached", lambda task, *_: task == "sst2")
    monkeypatch.setattr(table2, "run_sweep", lambda *_: pytest.fail("started"))
    assert table2.main(["--profile", "paper", "--output", str(small / "t2")]) == 1
    assert capsys.readouterr().err.startswith("error: --profile paper: ")


def test_rows():
    scores = {"name": "accuracy", "dense": 0.8, "pruned": 0.6, "final": 0.79}
    found = [
        answer(job, metric=scores, params={"block_pruned": 0.301, "all_pruned": 0.14},
               latency={"speedup": 1.5 if job[0] == "sst2" else 1.3})
        for job in JOBS
        if job[2] == 0.3 and (job[0], job[3]) != ("rte", 2)
    ]  # fmt: skip
    found[2] |= {"metric": scores | {"dense": 0.55, "final": 0.6}, "data_is_sample": True}
    others = [failed(task="sst2", ratio=0.5, seed=1), result("sst2", ratio=0.9)]
    head = {"backbone": "minilm", "ratio": "dense", "block %": "0.0", "all %": "0.0"}
    few = "(stand-in, at chance, 1 of 2 seeds)"
    assert rows(ASKED, answers([*found, *others])).to_dict("records") == [
        head
        | {
            "speed-up": "1.00x",
            "sst2 (accuracy)": "80.0 ± 0.0",
            "rte (accuracy)": f"55.0 {few}",
        },
        {
            **{"backbone": "minilm", "ratio": "0.3", "block %": "30.1", "all %": "14.0"},
            "speed-up": "1.40x (1.30 to 1.50)",
            "sst2 (accuracy)": "79.0 ± 0.0",
            "rte (accuracy)": f"60.0 {few}",
        },
        {
            **{"backbone": "minilm", "ratio": "0.5", "block %": "-", "all %": "-"},
            **{"speed-up": "-", "sst2 (accuracy)": "missing", "rte (accuracy)": "missing"},
        },
    ]
    noise = {"latency": {"speedup": 1.5, "contended": True}}
    loud = rows(ASKED, answers([each | noise for each in found]))
    assert list(loud["speed-up"]) == ["1.00x", "-", "-"]


def test_other_settings_are_lines_of_their_own():
    precision = {1: "bf16-mixed", 2: "32-true"}
    text = rows(ASKED, answers([answer(job, precision=precision[job[3]]) for job in JOBS]))
    assert list(text["variant"]) == [
        *["trainer.precision=32-true"] * 3,
        *["trainer.precision=bf16-mixed"] * 3,
    ]


def test_a_rehearsal_is_never_titled_table_2():
    asked = Plan(["sst2"], ["minilm"], [0.3], [1], "because", is_rehearsal=True)
    for text in (to_markdown(asked, answers([])), to_latex(asked, answers([]))):
        assert REHEARSAL in text and "table 2" not in text.lower()


def run(small, monkeypatch, code, *more):
    """The command, whose sweep is Python code."""
    monkeypatch.setattr(table2, "write_command", lambda *_: [sys.executable, "-c", code])
    return table2.main(["--output", str(small / "t2"), *more])


@pytest.mark.parametrize("count", [8, 5])
def test_runs_the_sweep_and_writes_the_table_where_it_is_told(small, monkeypatch, capsys, count):
    source = store(small / "made", [answer(job) for job in JOBS[:count]])
    copy = f"import shutil; shutil.copytree({str(source)!r}, 't2/jobs/today')"
    assert run(small, monkeypatch, copy) == int(count < 8)
    assert f"table2_embedded: {count} of 8 jobs done" in capsys.readouterr().out
    text = (small / "t2/table2.md").read_text()  # a rehearsal, too
    assert REHEARSAL in text and (small / "t2/table2.tex").is_file()
    assert ("missing" in text) == ("INCOMPLETE: 3 of 8 jobs" in text) == (count < 8)


@pytest.mark.parametrize(
    ("name", "wait"),
    [("SIGINT", 0.3), ("SIGTERM", 60)],  # SIGTERM reaches this process alone: it ends the sweep
)
def test_interrupted_still_writes_the_table(small, monkeypatch, name, wait):
    store(small / "t2/jobs", [answer(job) for job in JOBS[:2]])
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
    assert "INCOMPLETE: 6 of 8" in (small / "t2/table2.md").read_text()


def test_the_table_is_written_again_from_other_folders(small, monkeypatch, capsys):
    jobs = store(small / "made", [answer(job) for job in JOBS[:7]])
    assert run(small, monkeypatch, "", "--no-run", "--results", str(jobs)) == 1
    told = capsys.readouterr().out
    assert "running:" not in told and "7 of 8 jobs done" in told
