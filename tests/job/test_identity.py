"""A repeated job is known before torch is loaded, and everything that counts makes another job."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from skip_exp import pipeline, results
from skip_exp.cache import versions
from skip_exp.cache.version import PIPELINE, closure
from skip_exp.config.schema import Config
from skip_exp.config.train import TuneConfig
from skip_exp.job import attempts
from skip_exp.job.identity import job_id, local_content, training
from skip_exp.skill.record import RECORD
from tests.helpers.toy import save_toy, toy_job

Make = Callable[..., Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A toy task with one finished job in ``first``: its overrides, its folder."""
    root = tmp_path_factory.mktemp("again")
    toy = save_toy(root)
    pipeline.run(toy_job(toy, root, "first", "attribution=magnitude", "retune.enabled=false"))
    return toy, root


@pytest.fixture
def job(done: tuple[list[str], Path], tmp_path: Path) -> Make:
    """``job(...)``: the same job in another folder, or one that differs."""
    toy, root = done
    given = [f"output_dir={tmp_path}", "attribution=magnitude", "retune.enabled=false"]
    return partial(toy_job, toy, root, "second", *given)


def test_the_same_job_is_known(job: Make, done: tuple[list[str], Path], tmp_path: Path) -> None:
    """Wherever its rows lie and whatever it logs."""
    shutil.copy(done[1] / "train.csv", tmp_path / "copy.csv")
    same = ["trainer.accelerator=auto", "logger=csv", f"task.files.train={tmp_path}/copy.csv"]
    for overrides in ([], same):
        found = attempts.repeat(job(*overrides))
        assert found is not None and found["reused"]
        (stored,) = results.load(tmp_path)
        assert (tmp_path / stored["skill"] / RECORD).is_file()


@pytest.mark.parametrize(
    "other",
    [
        *("prune.ratio=0.3", "seed=2", "sweep.skip_done=false", "cache.dir=null"),
        *("trainer.precision=bf16-mixed", "benchmark.batch=3"),
        "data.train_rows=50",
    ],
)
def test_another_job_is_not(job: Make, other: str) -> None:
    assert attempts.repeat(job(other)) is None


def test_edited_data_or_backbone_make_another_job(job: Make, done: tuple[list[str], Path]) -> None:
    file = done[1] / "train.csv"
    content, about = file.read_bytes(), file.stat()
    file.write_bytes(content.replace(b"good", b"fine", 1))
    assert attempts.repeat(job()) is None
    file.write_bytes(content)
    assert attempts.repeat(job())  # not by its time, by its content
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    more = done[1] / "backbone/more.json"
    more.write_text("{}")
    assert attempts.repeat(job()) is None
    more.unlink()
    assert attempts.repeat(job())


def test_a_note_that_is_damaged_is_none(job: Make, done: tuple[list[str], Path]) -> None:
    for note in (file for file in (done[1] / "cache/jobs").iterdir() if not file.suffix):
        content = note.read_bytes()
        for damaged in (b"", b"[]", b"{}", b"3", b"[1]", content[:-20]):
            note.write_bytes(damaged)
            assert attempts.repeat(job()) is None
        note.write_bytes(content)
    assert attempts.repeat(job())


def test_the_answer_needs_no_torch() -> None:
    code = "import sys, skip_exp.__main__; print({'torch', 'pandas', 'wandb'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


def id_of(cfg: Config) -> str:
    """The id by the files as they are now."""
    for cached in (versions.code_version, versions._imports, versions._read, versions.source_of):
        cached.cache_clear()
    return job_id(cfg, local_content(cfg), "32-true")


def test_an_edit_of_an_own_method_or_of_its_helper_makes_another_job(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    method, helper = tmp_path / "own_method.py", tmp_path / "own_helper.py"
    helper.write_text("import torch\n\nSCALE = 1.0\n")
    method.write_text(
        "import torch\nfrom own_helper import SCALE\n\n\n"
        "def scores(model, batches, norm):\n"
        "    sizes = {s: n for shape in model.shapes() for s, n in shape.sites().items()}\n"
        "    return {s: SCALE * torch.rand(n) for s, n in sizes.items()}\n"
    )
    cfg = job("attribution._target_=own_method.scores", f"output_dir={tmp_path}/own")
    first = id_of(cfg)
    assert pipeline.run(cfg)["job_id"] == first
    assert attempts.repeat(cfg)
    for file in (method, helper):
        before = file.read_text()
        file.write_text(before + "\nEDITED = True\n")
        assert id_of(cfg) != first
        assert attempts.repeat(cfg) is None
        file.write_text(before)
    assert id_of(cfg) == first


def test_an_open_rate_counts_as_the_one_that_is_used() -> None:
    assert training(TuneConfig(train="lora")) == training(TuneConfig(train="lora", lr=2e-3))
    assert training(TuneConfig(train="bias")) == training(TuneConfig(train="bias", lr=2e-2))
    assert training(TuneConfig()) != training(TuneConfig(lr=2e-2))  # its way is open, too


def test_a_given_rate_is_not_an_open_one_where_few_rows_decide(job: Make) -> None:
    rates = ["retune.lr=0.002", "retune.bias_lr=0.001"]
    assert len({id_of(job("tune.train=auto", *each)) for each in ([], rates[:1], rates[1:])}) == 3


def test_what_prepares_and_finishes_a_job_is_in_its_code() -> None:
    names = {"pipeline", "job.prepare", "job.finish", "job.job", "data.encode", "skill.files"}
    assert {f"skip_exp.{name}" for name in names} <= closure((PIPELINE,))


def test_a_ratio_of_a_range_is_the_same_job(job: Make) -> None:
    assert id_of(job(f"prune.ratio={0.1 + 0.2}")) == id_of(job("prune.ratio=0.3"))
