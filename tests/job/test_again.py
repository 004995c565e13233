"""A job that was done before is known without loading anything, and only where that is certain."""

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
from skip_exp.job import again
from skip_exp.skill.files import TENSORS
from skip_exp.skill.record import RECORD
from tests.helpers.toy import save_toy, toy_job

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A toy task with one finished job in ``first``: its overrides, its folder."""
    root = tmp_path_factory.mktemp("again")
    toy = save_toy(root)
    pipeline.run(toy_job(toy, root, "first", "attribution=magnitude", "retune.enabled=false"))
    return toy, root


@pytest.fixture
def job(done: tuple[list[str], Path]) -> Make:
    """``job(...)``: the same job in another folder, or one that differs."""
    toy, root = done
    return partial(toy_job, toy, root, "second", "attribution=magnitude", "retune.enabled=false")


def test_the_same_job_is_known(job: Make, done: tuple[list[str], Path]) -> None:
    found = again.find(job())
    assert found is not None
    assert found["path"] == str(done[1] / "first/result.json")


def test_where_it_writes_and_what_it_tells_does_not_count(job: Make) -> None:
    assert again.find(job("trainer.progress=true", "logger=csv", "debug=true"))


@pytest.mark.parametrize(
    "other", ["prune.ratio=0.3", "seed=2", "sweep.skip_done=false", "cache.enabled=false"]
)
def test_another_job_is_not(job: Make, other: str) -> None:
    assert again.find(job(other)) is None


@pytest.mark.parametrize(("name", "other"), [("processor", "another"), ("cores", 0)])
def test_on_another_processor_or_with_fewer_cores_it_is_looked_at(
    job: Make, monkeypatch: pytest.MonkeyPatch, name: str, other: Any
) -> None:
    """Its timing is of another place, and with it what `prune.target_speedup` cut."""
    monkeypatch.setattr(again, name, lambda: other)
    assert again.find(job()) is None


def test_edited_data_are_read_again(job: Make, done: tuple[list[str], Path]) -> None:
    file = done[1] / "train.csv"
    before = file.stat()
    try:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert again.find(job()) is None
    finally:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert again.find(job())


def test_another_file_beside_the_weights_is_seen(job: Make, done: tuple[list[str], Path]) -> None:
    file = done[1] / "backbone/more.json"
    file.write_text("{}")
    assert again.find(job()) is None
    file.unlink()
    assert again.find(job())


def test_without_its_skill_a_job_is_run_again_from_the_cache(
    job: Make, done: tuple[list[str], Path]
) -> None:
    skill, aside = done[1] / "first/skill", done[1] / "aside"
    shutil.move(skill, aside)
    assert again.find(job()) is None
    result = pipeline.run(job())
    assert not result["reused"]
    assert result["cache"] == {"tune": "hit", "attribution": "hit"}
    assert (done[1] / "second" / str(result["skill"]) / RECORD).is_file()
    shutil.move(aside, skill)


def test_a_note_that_is_damaged_is_none(job: Make, done: tuple[list[str], Path]) -> None:
    (note,) = (file for file in (done[1] / "cache/jobs").iterdir() if len(file.name) == 32)
    content = note.read_bytes()
    for damaged in (b"", b"[]", b"{}", content[:-20]):
        note.write_bytes(damaged)
        assert again.find(job()) is None
    note.write_bytes(content)


def test_the_files_of_a_skill_have_one_name() -> None:
    assert results.SKILL == (TENSORS, RECORD)


def test_the_command_line_needs_no_torch_to_say_so() -> None:
    code = "import sys, skip_exp.__main__; print({'torch', 'pandas', 'wandb'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"
