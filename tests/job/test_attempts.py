"""A finished job is reused; a timing that was disturbed, or is of another place, is repeated."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from skip_exp import pipeline, results
from skip_exp.commands import predict
from skip_exp.errors import SkipError
from skip_exp.job import attempts
from skip_exp.phases import benchmark
from skip_exp.results import Result, next_steps
from tests.helpers.toy import save_toy, toy_job

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def job(toy: list[str], tmp_path: Path) -> Make:
    """``job("a", ...)``: a small job's configuration, its folder ``a``."""
    return partial(toy_job, toy, tmp_path)


def test_a_killed_job_runs_again(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pipeline, "attribute", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        pipeline.run(job("old"))
    assert not Path(job("old").output_dir, "result.json").exists()
    done = pipeline.run(job("new"))
    assert done["cache"] == {"tune": "hit", "attribution": "miss"}
    assert pipeline.run(job("again"))["reused"]
    assert pipeline.run(job("new"))["reused"] is False  # the original, not a copy of it
    skill, copied = (Path(job(name).output_dir, "skill") for name in ("new", "again"))
    shutil.rmtree(copied)
    assert attempts.repeat(job("again"))
    assert (copied / "skill.json").is_file()
    shutil.rmtree(skill)
    third = Path(job("from the copy").output_dir, "skill")
    assert attempts.repeat(job("from the copy")) and (third / "skill.json").is_file()
    shutil.rmtree(copied)
    shutil.rmtree(third)
    assert attempts.repeat(job("without any skill")) is None


def test_a_damaged_skill_is_made_again(job: Make) -> None:
    pipeline.run(job("a"))
    file = Path(job("a").output_dir, "skill", "skill.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert attempts.repeat(job("b")) is None
    assert pipeline.run(job("a"))["reused"] is False
    assert file.read_bytes() == whole


def test_a_sound_skill_stays_where_another_timing_is_taken(job: Make) -> None:
    pipeline.run(job("a"))
    pipeline.run(job("b", "sweep.skip_done=false"))
    (other,) = results.load(job("b").output_dir)
    file = Path(job("a").output_dir, "skill", "skill.json")
    own = file.read_bytes()
    Path(job("b").output_dir, "skill", "skill.json").write_bytes(own + b" ")
    attempts.reuse(
        job("a"), other.replace(latency={"speedup": 3.0}, metric={}, path=other.path), {}
    )
    (kept,) = results.load(job("a").output_dir)
    assert file.read_bytes() == own and kept["metric"] == other["metric"]
    assert (kept.latency.speedup, kept.reused) == (3.0, False)
    assert kept["config"]["sweep"]["skip_done"] and not other["config"]["sweep"]["skip_done"]


def test_every_path_that_a_reused_job_prints_can_be_asked(job: Make, capsys: Any) -> None:
    pipeline.run(job("a"))
    assert pipeline.run(job("b"))["reused"]
    (result,) = results.load(job("b").output_dir)
    lines = [line.split() for line in next_steps(result).splitlines()]
    assert [words[0] for words in lines] == ["skill:", "predict:", "export:"]
    folder = job("b").output_dir
    for place in (lines[0][1], lines[1][3], lines[2][3], folder, f"{folder}/skill"):
        assert predict.main([place, "the film was dull"]) == 0
    shutil.rmtree(job("a").output_dir)
    assert predict.main([folder, "the film was dull"]) == 0  # it has a skill of its own
    assert len(set(capsys.readouterr().out.splitlines())) == 1


def test_another_precision_that_was_given_does_not_answer_for_auto(job: Make) -> None:
    assert pipeline.run(job("fp32"))["precision"] == "32-true"
    assert attempts.repeat(job("auto", "trainer.precision=auto")) is None
    pipeline.run(job("own", "trainer.precision=auto", "seed=2"))
    again = attempts.repeat(job("again", "trainer.precision=auto", "seed=2"))
    assert again is not None and again["reused"]


def test_a_job_is_run_again_where_that_is_asked(job: Make) -> None:
    for _ in range(2):
        assert pipeline.run(job("a", "sweep.skip_done=false"))["reused"] is False


def test_another_jobs_folder_is_refused_before_any_work(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run(job("a"))
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    monkeypatch.setattr(pipeline, "run_phases", lambda *_: pytest.fail("ran"))
    with pytest.raises(SkipError, match=r"^output_dir=.*a: "):
        pipeline.run(job("a", "prune.ratio=0.3"))
    assert before == {path: path.read_bytes() for path in before}


def test_a_job_that_was_slower_than_another_in_its_folder_is_refused_before_it_writes(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = pipeline.run_phases, job("b", "prune.ratio=0.3")
    pipeline.run(other)
    held: dict[Path, bytes] = {}

    def meanwhile(this: Any) -> Any:
        for name in ("result.json", "skill/skill.safetensors", "skill/skill.json"):
            (tmp_path / "a" / name).parent.mkdir(exist_ok=True)
            held[tmp_path / "a" / name] = (tmp_path / "b" / name).read_bytes()
            (tmp_path / "a" / name).write_bytes(held[tmp_path / "a" / name])
        return run(this)

    monkeypatch.setattr(pipeline, "run_phases", meanwhile)
    with pytest.raises(SkipError, match=r"^output_dir=.*a: "):
        pipeline.run(job("a"))
    assert held == {path: path.read_bytes() for path in held}


@pytest.fixture
def timed(job: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``timed("a", contended=False, busy=0.0)``: a job's result, its timing by an invented clock.

    Its ``latency`` tells the block parameters of both models. ``busy``: cores of other processes.
    """

    def compare(dense: Any, final: Any, settings: Any, device: str) -> dict[str, Any]:
        sizes = [sum(s.parameters for s in model.shapes()) for model in (dense, final)]
        fields = {"speedup": 2.0, "contended": state["contended"], "sizes": sizes}
        return fields | {"device": "x", "threads": int(os.environ["OMP_NUM_THREADS"])}

    state: dict[str, Any] = {}
    monkeypatch.setattr(benchmark, "compare", compare)
    monkeypatch.setattr(attempts, "busy_cores", lambda: state["busy"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(folder: str, contended: bool = False, busy: float = 0.0) -> Result:
        state.update(contended=contended, busy=busy)
        cfg = job(folder, "benchmark.enabled=true")
        if not attempts.repeat(cfg):
            pipeline.run(cfg)
        (stored,) = results.load(cfg.output_dir)
        return stored

    return run


def without_timing(result: Result) -> dict[str, Any]:
    own = ("latency", "retimed", "reused")
    found = {key: value for key, value in result.to_dict().items() if key not in own}
    return found | {"config": found["config"] | {"output_dir": ""}}


def test_a_contended_timing_is_repeated_once_nothing_else_runs(
    timed: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    first = timed("a", contended=True)
    assert (first["latency"]["contended"], first["retimed"]) == (True, False)
    monkeypatch.setattr(pipeline, "run_phases", lambda *_: pytest.fail("ran again"))
    caplog.set_level("INFO", "skip_exp")
    kept = timed("b", busy=1.3)
    assert (kept["latency"], kept["reused"]) == (first["latency"], True)
    assert "1.3 cores" in caplog.text
    again = timed("c")
    assert (again["latency"]["contended"], again["retimed"], again["reused"]) == (False, True, True)
    assert again["latency"]["sizes"] == first["latency"]["sizes"]  # of the same two models
    assert without_timing(again) == without_timing(first)
    monkeypatch.setattr(benchmark, "compare", lambda *_: pytest.fail("timed again"))
    assert [timed(folder)["latency"]["contended"] for folder in "dca"] == [False] * 3
    assert not timed("a")["reused"]  # the original, with a later timing


def test_a_timing_of_another_place_is_not_reused(timed: Any, monkeypatch: Any) -> None:
    """One folder with 1 thread, then 2, then 1; a loaded machine keeps the earlier timing."""
    for threads in (1, 2, 1):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        found = timed("a")
        assert found["latency"]["threads"] == threads
    assert found["retimed"]
    with monkeypatch.context() as patched:
        patched.setattr(benchmark, "compare", lambda *_: pytest.fail("timed again"))
        assert timed("a") == found
        patched.setenv("OMP_NUM_THREADS", "2")
        assert timed("a", busy=1.0) == found
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert timed("a", contended=True) == found  # a quiet timing is not given up
    assert timed("b")["latency"]["threads"] == 2
