"""``skip-exp cache``: how large it is, what is removed, what is kept."""

import os
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from skip_exp.cache.store import Entry, StageCache, stage_key
from skip_exp.commands import cache as command
from skip_exp.commands.cache import main


def use(cache: Path, stage: str, seed: int) -> None:
    entry = Entry({"x": torch.zeros(1000)}, {})
    StageCache(cache).get(stage, stage_key(stage, {"seed": seed}), lambda: entry)


def file(cache: Path, stage: str, seed: int) -> Path:
    return cache / stage / f"{stage_key(stage, {'seed': seed})}.safetensors"


def age(path: Path, days: float) -> None:
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two entries of ``tune``, one of ``score``; all but the first were used 9 days ago."""
    for stage, seed in (("tune", 1), ("tune", 2), ("score", 1)):
        use(tmp_path / "cache", stage, seed)
        if (stage, seed) != ("tune", 1):
            age(file(tmp_path / "cache", stage, seed), 9)
    return tmp_path / "cache"


def left(cache: Path) -> int:
    return len(list(cache.glob("*/*.safetensors")))


def test_size_is_shown_per_stage(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dir", str(cache / "nowhere"), "size"]) == 0
    assert "in 0 entries" in capsys.readouterr().out
    assert main(["--dir", str(cache), "size"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[-2]) for line in lines] == [
        ("score", "1"),
        ("tune", "2"),
        (f"{cache}:", "3"),
    ]


def test_what_was_not_used_goes_with_what_killed_processes_left(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = file(cache, "tune", 2)
    old.with_name(f"{old.stem}.1.tmp").write_bytes(b"part")
    freed = sum(path.stat().st_size for path in (old, file(cache, "score", 1))) + len(b"part")
    assert main(["--dir", str(cache), "prune", "--days", "5"]) == 0
    assert f"{freed / 1000:.1f} kB" in capsys.readouterr().out
    assert left(cache) == 1 and file(cache, "tune", 1).exists()
    assert not list(cache.glob("*/*.tmp")) and not old.with_suffix(".lock").exists()


def test_what_a_killed_job_left_goes_too(cache: Path) -> None:
    for name, days in (("ckpt", 9), ("run", 1)):
        file(cache, "tune", 3).with_suffix(f".{name}").touch()
        age(file(cache, "tune", 3).with_suffix(f".{name}"), days)
    main(["--dir", str(cache), "prune", "--days", "5"])
    assert [path.suffix for path in cache.glob("tune/*")].count(".ckpt") == 0
    assert file(cache, "tune", 3).with_suffix(".run").exists()


def test_what_was_used_or_is_held_stays(cache: Path) -> None:
    use(cache, "tune", 2)
    with FileLock(file(cache, "score", 1).with_suffix(".lock")):
        main(["--dir", str(cache), "prune", "--days", "5"])
    assert left(cache) == 3
    main(["--dir", str(cache), "prune", "--days", "5"])
    assert left(cache) == 2 and not file(cache, "score", 1).exists()


@pytest.mark.parametrize("days", ["-30", "nan"])
def test_days_that_would_empty_the_cache_are_refused(cache: Path, days: str) -> None:
    use(cache, "tune", 2)
    before = left(cache)
    with pytest.raises(SystemExit) as refused:
        main(["--dir", str(cache), "prune", f"--days={days}"])
    assert refused.value.code == 2 and left(cache) == before


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("tune/thesis.tex", "mine/model.safetensors", "notes.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        age(tmp_path / name, 99)
    assert main(["--dir", str(tmp_path), "prune", "--days", "0"]) == 0
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


def test_another_command_may_remove_the_same_entries(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [*command.list_entries(cache)]
    file(cache, "tune", 2).unlink()
    monkeypatch.setattr(command, "list_entries", lambda folder: iter(found))
    assert main(["--dir", str(cache), "size"]) == 0
    assert main(["--dir", str(cache), "prune", "--days", "5"]) == 0
    assert left(cache) == 1
