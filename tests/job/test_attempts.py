"""An attempt that was killed is marked, in its folder and in W&B; one that finished is reused.

What is reused holds here: a timing that was disturbed, or is of another place, is taken again.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from omegaconf import OmegaConf

from skip_exp import pipeline, results
from skip_exp.cache.store import StageCache
from skip_exp.cache.versions import JOBS
from skip_exp.errors import SkipError
from skip_exp.job import attempts
from skip_exp.logger import build, key, runs
from skip_exp.phases import benchmark
from skip_exp.report import cells, frame
from tests.helpers.toy import check_files, save_toy, toy_job

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def job(toy: list[str], tmp_path: Path) -> Make:
    """``job("a", ...)``: a small job's configuration, its folder ``a``."""
    return partial(toy_job, toy, tmp_path)


def killed(cfg: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a job whose process ended in the middle of its phases."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "attribute", stop)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(cfg)
    return Path(cfg.output_dir)


def status(folder: Path) -> tuple[str, str | None]:
    (found,) = results.load(folder / "result.json")
    return found["status"], found["error"]


def test_a_killed_attempt_is_superseded(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = killed(job("old", "logger.group=first"), monkeypatch)
    assert not (old / "result.json").exists()
    (old / "result.json.1.tmp").touch()
    again = killed(job("again"), monkeypatch)
    done = pipeline.run(job("new"))
    assert done["status"] == "done" and not done["reused"]
    assert done["cache"] == {"tune": "hit", "attribution": "miss"}
    told = "superseded: ended without a result; done again in"
    assert status(old) == ("failed", f"{told} {again}")
    assert status(again) == ("failed", f"{told} {tmp_path / 'new'}")
    check_files(tmp_path)
    found = results.load(tmp_path)
    assert [result["sweep"] for result in found if result["path"].startswith(str(old))] == ["first"]
    report = cells.gather(frame.load([tmp_path]))
    assert list(report.cells["n"]) == [1]
    assert report.failed.empty and report.missing.empty
    assert pipeline.run(job("reused"))["reused"]


def test_an_attempt_in_the_same_folder(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = killed(job("old"), monkeypatch)
    assert pipeline.run(job("old"))["status"] == "done"
    stored = (folder / "result.json").read_bytes()
    pipeline.run(job("old"))
    assert (folder / "result.json").read_bytes() == stored  # the original, not a copy of it


def test_killed_after_its_result_is_finished(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = pipeline.run_phases

    def stop(*arguments: Any) -> None:
        finish(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pipeline, "run_phases", stop)
        pipeline.run(job("old"))
    assert pipeline.run(job("new"))["reused"]
    assert not pipeline.run(job("forced", "sweep.skip_done=false"))["reused"]
    assert status(Path(job("old").output_dir)) == ("done", None)


def test_a_failed_attempt_is_not_superseded(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(SkipError, match="on purpose"):
        patched.setattr(pipeline, "test", lambda *_: (_ for _ in ()).throw(SkipError("on purpose")))
        pipeline.run(job("old"))
    monkeypatch.setattr(results, "write_failed", lambda *_: pytest.fail("marked"))
    assert pipeline.run(job("new"))["status"] == "done"


def test_another_jobs_folder_is_refused_before_any_work(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run(job("a"))
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    monkeypatch.setattr(pipeline, "run_phases", lambda *_: pytest.fail("ran"))
    with pytest.raises(SkipError, match=r"^output_dir=.*a: "):
        pipeline.run(job("a", "prune.ratio=0.3"))
    assert before == {path: path.read_bytes() for path in before}


def supersede(old: Path, cfg: Any) -> None:
    """Begin an attempt at a job whose last one was killed in ``old``."""
    cache = StageCache(Path(cfg.cache.dir))
    attempts.Note(started=old).write(_note(cfg))
    with attempts.hold(cfg, "abc", cache) as held, held.attempt():
        pass


def _note(cfg: Any) -> Path:
    path = Path(cfg.cache.dir) / JOBS / "abc"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def begin_run(cfg: Any) -> str:
    """A job that opened its W&B run and was killed then; the run's id."""
    folder = Path(cfg.output_dir)
    folder.mkdir()
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    build.build_logger(cfg)
    assert wandb.run is not None
    run_id = wandb.run.id
    runs.close()
    time.sleep(1.1)  # W&B names a run's folder by the second
    return run_id


def last_run(folder: Path) -> tuple[str, dict[str, Any]]:
    """Folder name and records (by type, the last of each) of the last W&B run below ``folder``."""
    run = max(folder.glob("wandb/offline-run-*-*"))
    (file,) = run.glob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    records = [json.loads(line) for line in told.splitlines()]
    return run.name, {record["type"]: record.get(record["type"]) for record in records}


def test_the_run_of_a_killed_attempt_is_tagged(job: Make, tmp_path: Path) -> None:
    old, new = tmp_path / "old", job("new", "logger=wandb", "logger.group=other")
    given = ["logger.project=p", "logger.group=g", "logger.tags=[mine]"]
    run_id = begin_run(job("old", "logger=wandb", *given))
    supersede(old, new)
    assert wandb.run is None
    name, records = last_run(old)
    assert name.endswith(f"-{run_id}") and len([*old.glob("wandb/offline-run-*")]) == 2
    run = records["run"]
    assert (run["run_id"], run["project"], run["run_group"]) == (run_id, "p", "g")
    assert run["display_name"] == "adjectives-tiny-0.5-1"
    assert run["tags"] == [
        *("adjectives", "tiny", "prefix", "activation_gradient", "mine", "superseded")
    ]
    assert records["exit"]["exit_code"] == 1
    assert status(old) == (
        "failed",
        f"superseded: ended without a result; done again in {tmp_path}/new",
    )
    assert not (tmp_path / "new/result.json").exists()


def test_without_wandb_no_run_is_touched(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old" / "wandb" / "offline-run-20250101_000000-abc").mkdir(parents=True)
    monkeypatch.setattr(wandb, "init", lambda **_: pytest.fail("opened"))
    for logger in ("none", "csv"):
        supersede(tmp_path / "old", job("new", f"logger={logger}"))
        assert status(tmp_path / "old")[0] == "failed"


@pytest.mark.parametrize("run", ["offline-run-20250101_000000-abc", "run-20250101_000000-abc"])
def test_trouble_with_wandb_costs_a_warning(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, run: str
) -> None:
    (tmp_path / "old" / "wandb" / run).mkdir(parents=True)

    def init(**given: Any) -> None:
        assert (given["id"], given["mode"], given["dir"]) == ("abc", "offline", f"{tmp_path}/old")
        raise OSError("no such\nluck")

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(key, "has_key", lambda: False)
    supersede(tmp_path / "old", job("new", "logger=wandb"))
    why = "no such luck" if run.startswith("off") else "logger.mode=online: needs an API key"
    assert "run abc" in caplog.text and why in caplog.text


def test_an_online_run_is_resumed(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old" / "wandb" / "run-20250101_000000-abc").mkdir(parents=True)
    run, given = SimpleNamespace(tags=("from the server",)), {}

    def init(**arguments: Any) -> Any:
        given.update(arguments)
        return run

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(key, "has_key", lambda: True)
    supersede(tmp_path / "old", job("new", "logger=wandb"))
    assert (given["id"], given["resume"], given["mode"]) == ("abc", "allow", "online")
    assert run.tags == ("from the server", "superseded")


@pytest.fixture
def timed(job: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
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

    def run(folder: str, contended: bool = False, busy: float = 0.0) -> dict[str, Any]:
        state.update(contended=contended, busy=busy)
        cfg = job(folder, "benchmark.enabled=true")
        if not attempts.repeat(cfg):
            pipeline.run(cfg)
        (stored,) = results.load(cfg.output_dir)
        return stored

    return run


def without_timing(result: dict[str, Any]) -> dict[str, Any]:
    own = ("latency", "retimed", "reused", "path", "skill")
    return {key: value for key, value in result.items() if key not in own}


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


def test_a_job_whose_skill_is_gone_is_done_again(job: Make, tmp_path: Path) -> None:
    pipeline.run(job("a"))
    shutil.rmtree(tmp_path / "a/skill")
    assert pipeline.run(job("b"))["reused"] is False
    assert (tmp_path / "b/skill").is_dir()
