"""A finished job is the last stage, and everything that counts makes another job."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from skip_exp import pipeline, results
from skip_exp.commands import predict
from skip_exp.errors import SkipError
from skip_exp.models.shapes import shapes_of
from skip_exp.phases import benchmark
from skip_exp.phases.prepare import prepare
from skip_exp.skill.record import RECORD
from tests.helpers.toy import save_toy, toy_job

Make = Callable[..., Any]
QUICK = ("attribution=magnitude", "retune.enabled=false")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A toy task with one finished job in ``first``: its overrides, its folder."""
    root = tmp_path_factory.mktemp("again")
    toy = save_toy(root)
    pipeline.run(toy_job(toy, root, "first", *QUICK))
    return toy, root


@pytest.fixture
def job(done: tuple[list[str], Path], tmp_path: Path) -> Make:
    """``job(...)``: the same job in another folder, or one that differs."""
    toy, root = done
    return partial(toy_job, toy, root, "second", *QUICK, f"output_dir={tmp_path}/run")


def is_known(cfg: Any, root: Path) -> bool:
    """Whether the cache has the finished job of ``cfg``."""
    return (root / f"cache/jobs/{prepare(cfg).key}.safetensors").exists()


def test_the_same_job_is_answered(
    job: Make, done: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever its rows lie, whatever it logs, whether its first folder is there or not."""
    monkeypatch.setattr(pipeline, "run_phases", lambda *_: pytest.fail("ran again"))
    (first,) = results.load(done[1] / "first")
    shutil.copy(done[1] / "train.csv", tmp_path / "copy.csv")
    same = ["trainer.accelerator=cpu", "logger=csv", f"task.files.train={tmp_path}/copy.csv"]
    for overrides in ([], same, ["benchmark.batch=3"]):
        pipeline.run(job(*overrides))
        (stored,) = results.load(tmp_path / "run")
        assert stored["metric"] == first["metric"] and stored["job_id"] == first["job_id"]
        skills = [Path(result["path"]).parent / result["skill"] for result in (first, stored)]
        assert len({(skill / RECORD).read_bytes() for skill in skills}) == 1
        shutil.rmtree(skills[1])
    pipeline.run(job())
    assert predict.main([f"{tmp_path}/run", "the film was dull"]) == 0


@pytest.mark.parametrize(
    "other",
    [
        *("prune.ratio=0.3", "seed=2", "trainer.precision=bf16-mixed", "data.train_rows=50"),
        "+trainer.extra.limit_train_batches=2",
    ],
)
def test_another_job_is_not(job: Make, done: tuple[list[str], Path], other: str) -> None:
    assert not is_known(job(other), done[1])


def test_edited_data_make_another_job(job: Make, done: tuple[list[str], Path]) -> None:
    file = done[1] / "train.csv"
    content, about = file.read_bytes(), file.stat()
    file.write_bytes(content.replace(b"good", b"fine", 1))
    assert not is_known(job(), done[1])
    file.write_bytes(content)
    assert is_known(job(), done[1])  # not by its time, by its content
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_a_damaged_entry_is_computed_again(job: Make, done: tuple[list[str], Path]) -> None:
    (entry,) = done[1].glob("cache/jobs/*.safetensors")
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-1])
    pipeline.run(job())
    assert entry.read_bytes()[-1000:] == whole[-1000:]


def test_a_killed_job_goes_on_with_its_stages(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pipeline, "attribute", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        pipeline.run(job("seed=7"))
    assert not Path(job().output_dir, "result.json").exists()
    assert pipeline.run(job("seed=7"))["cache"] == {"tune": "hit", "attribution": "miss"}


def test_another_jobs_folder_is_refused_before_any_work(job: Make, tmp_path: Path) -> None:
    pipeline.run(job())
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(SkipError, match=r"^output_dir=.*run: "):
        pipeline.run(job("prune.ratio=0.3"))
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(("one", "same"), [("0.30000000000000004", "0.3"), ("0", "0.0")])
def test_a_ratio_is_the_same_job_however_it_is_written(job: Make, one: str, same: str) -> None:
    assert len({prepare(job(f"prune.ratio={ratio}")).key for ratio in (one, same)}) == 1


@pytest.fixture
def timed(job: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, int]]:
    """``timed(contended=False)``: a job's stored latency by an invented clock, and its calls."""
    state: dict[str, Any] = {"calls": 0}

    def compare(dense: Any, final: Any, settings: Any, device: str) -> dict[str, Any]:
        state["calls"] += 1
        sizes = [sum(s.parameters for s in shapes_of(model)) for model in (dense, final)]
        threads = {"device": "x", "threads": torch.get_num_threads()}
        times = {"dense_ms": sizes[0], "final_ms": sizes[1], "speedup": 2.0}
        return {"contended": state["contended"], **times, **threads}

    monkeypatch.setattr(benchmark, "compare", compare)

    def run(contended: bool = False) -> tuple[Any, int]:
        state.update(contended=contended, calls=0)
        cfg = job("benchmark.enabled=true")
        pipeline.run(cfg)
        (stored,) = results.load(cfg.output_dir)
        return stored["latency"], state["calls"]

    return run


def test_a_timing_is_reused_where_it_was_quiet_and_taken_here(
    timed: Callable[..., tuple[Any, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "run_phases", lambda *_: pytest.fail("ran again"))
    assert timed(contended=True)[0]["contended"]
    latency, calls = timed()
    assert (latency["contended"], calls) == (False, 1)
    assert latency["dense_ms"] > latency["final_ms"]
    assert timed() == (latency, 0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)  # a call in Python, which no variable tells
        other, calls = timed()
        assert (other["threads"], calls) == (before + 1, 1)
    finally:
        torch.set_num_threads(before)
    assert timed() == (latency, 0)


def test_what_the_clock_ended_is_not_kept_nor_what_used_it(
    done: tuple[list[str], Path], tmp_path: Path
) -> None:
    own = [*QUICK, "+trainer.extra.max_time=00:00:00:01", "tune.epochs=9999"]
    first = pipeline.run(toy_job(done[0], tmp_path, "run", *own, "benchmark.enabled=true"))
    assert first["status"] == "done" and not [*tmp_path.glob("cache/*/*.safetensors")]
    short = [*QUICK, "+trainer.extra.max_time=00:00:30:00"]
    pipeline.run(toy_job(done[0], tmp_path, "short", *short))
    assert [*tmp_path.glob("cache/jobs/*.safetensors")]
