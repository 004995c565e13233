"""``skip-exp cache``: what is listed, what goes, what stays."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from rich.filesize import decimal
from safetensors.torch import save

from skip_exp.cache import store
from skip_exp.cache.store import Entry, StageCache
from skip_exp.commands.cache import main

Told = Callable[..., str]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """``told(folder, "--prune", ...)``: what the command prints; it is to end with ``code``."""

    def run(*arguments: str | Path, code: int = 0) -> str:
        assert main([str(argument) for argument in arguments]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return run


def compute() -> Entry:
    return Entry({"x": torch.zeros(1000)}, {})


def finish(cache: Path, job_id: str, result: Path, seed: int, entries: tuple[str, ...]) -> None:
    """A job that used ``entries`` (stages) and left its result."""
    label = {"task": "rte", "backbone": "tiny", "prompt": "prefix", "seed": seed}
    held = StageCache(cache)
    with held.job(job_id), held.attempt(result):
        for stage in entries:
            held.get(stage, {"seed": seed}, compute, label)
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text("{}")


JOBS = ("a" * 16, "b" * 16, "c" * 16)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two jobs on seed 1, one on seed 2: three tuned prompts at first, the last of them unused."""
    folder = tmp_path / "cache"
    finish(folder, JOBS[0], tmp_path / "1" / "result.json", 1, ("tune", "score"))
    finish(folder, JOBS[1], tmp_path / "2" / "result.json", 1, ("tune",))
    finish(folder, JOBS[2], tmp_path / "3" / "result.json", 2, ("tune",))
    (tmp_path / "3" / "result.json").unlink()
    return folder


def files(cache: Path, pattern: str = "*/*") -> list[str]:
    return sorted(path.relative_to(cache).as_posix() for path in cache.glob(pattern))


def name(stage: str, seed: int, ending: str = ".safetensors") -> str:
    return f"{stage}/{store.entry_name(stage, {'seed': seed})}{ending}"


def size(cache: Path, *names: str) -> str:
    """Of these files, or of all entries."""
    return decimal(sum((cache / n).stat().st_size for n in names or files(cache, "*/*.safe*")))


def age(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the code is another version."""
    monkeypatch.setattr(store, "stage_version", lambda stage: "another")


def test_the_list(cache: Path, told: Told) -> None:
    hours = time.time() - 3 * 3600 - 5
    os.utime(cache / name("tune", 2), (hours, hours))
    before = files(cache)
    lines = told(cache).splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    shown = [[*row[:6], row[7], row[8], row[9]] for row in rows]
    assert shown == [
        ["score", "rte", "tiny", "prefix", "1", "-", "0 s", "1", ""],
        ["tune", "rte", "tiny", "prefix", "1", "-", "0 s", "2", ""],
        ["tune", "rte", "tiny", "prefix", "2", "-", "3 h", "0", ""],
    ]
    assert rows[0][6] == size(cache, name("score", 1))
    assert lines[-1] == f"3 entries, {size(cache)}; 1 unused, 0 stale"
    assert files(cache) == before


def test_entries_of_other_code_are_stale(
    cache: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache.parent / "3" / "result.json").write_text("{}")
    old = size(cache)
    age(monkeypatch)
    finish(cache, "d" * 16, cache.parent / "4" / "result.json", 2, ("tune",))
    assert told(cache).endswith("0 unused, 3 stale\n")
    assert f"freed {old}: 3 entries\n" in told(cache, "--prune", "stale")
    assert files(cache, "*/*.safetensors") == [name("tune", 2)]


def entry_saying(json: str) -> bytes:
    return save({"x": torch.zeros(1)}, {"json": json, "sha256": ""})


@pytest.mark.parametrize("which", ["unused", "stale", "all"])
def test_a_truncated_entry_is_listed_and_goes(cache: Path, told: Told, which: str) -> None:
    path = cache / name("tune", 1)
    path.write_bytes(path.read_bytes()[:-2])
    printed = told(cache)
    assert printed.count("damaged") == 2  # in its row and below
    assert printed.endswith("1 unused, 0 stale, 1 damaged\n")
    told(cache, "--prune", which)
    assert not path.exists()
    assert "damaged" not in told(cache)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 100,
        entry_saying("[]"),
        entry_saying('"x"'),
        entry_saying('{"about": {"stage": "tune", "key": 3, "label": {}}}'),
        entry_saying('{"about": {"stage": "tune", "key": {}, "label": [1]}}'),
        entry_saying('{"about": {"stage": "tune", "key": {}, "label": null}}'),
        entry_saying("[" * 100_000),
        entry_saying('{"about": {}, "about": {}}'),
    ],
)
def test_whatever_an_entry_holds_the_others_are_listed(
    cache: Path, told: Told, content: bytes
) -> None:
    (cache / "tune" / ("0" * 32 + ".safetensors")).write_bytes(content)
    printed = told(cache)
    assert printed.count("rte") == 3
    assert printed.endswith("2 unused, 0 stale, 1 damaged\n")


@pytest.mark.parametrize("entries", ['"tune/x"', "[[1]]", "[{}]", "3"])
def test_whatever_a_job_notes_the_entries_are_listed(cache: Path, told: Told, entries: str) -> None:
    where = "x" * 5000  # longer than a path may be
    (cache / "jobs" / JOBS[2]).write_text(f'{{"entries": {entries}, "result": "{where}"}}')
    assert told(cache).endswith("1 unused, 0 stale\n")
    told(cache, "--prune", "unused")
    assert f"jobs/{JOBS[2]}" not in files(cache)


@pytest.mark.parametrize("dry", [True, False])
def test_unused_entries_go(cache: Path, told: Told, dry: bool) -> None:
    before, going = files(cache), size(cache, name("tune", 2), f"jobs/{JOBS[2]}")
    printed = told(cache, "--prune", "unused", *(["--dry-run"] if dry else []))
    freed = "would free" if dry else "freed"
    assert f"{freed} {going}: 1 entry, 1 other file\n" in printed
    assert printed.count("rte") == 1
    if dry:
        assert files(cache) == before
    else:
        kept = [name("tune", 1), name("score", 1), f"jobs/{JOBS[0]}", f"jobs/{JOBS[1]}"]
        assert files(cache) == sorted(kept)
        with StageCache(cache).job(JOBS[0]) as earlier:
            assert earlier.result == cache.parent / "1" / "result.json"


def test_all_goes(cache: Path, told: Told) -> None:
    assert "3 entries, 3 other files\n" in told(cache, "--prune", "all")
    assert files(cache) == []
    assert told(cache) == "0 entries, 0 bytes; 0 unused, 0 stale\n"


def test_what_is_held_stays(cache: Path, told: Told) -> None:
    temporary = cache / name("tune", 2, ".1.tmp")
    with FileLock(cache / name("tune", 2, ".lock")):
        temporary.touch()
        for dry in (["--dry-run"], []):
            assert told(cache, "--prune", "all", *dry).endswith("; 1 in use, kept\n")
    assert files(cache) == sorted(
        [name("tune", 2), name("tune", 2, ".lock"), name("tune", 2, ".1.tmp")]
    )


def test_a_running_job_keeps_what_it_uses(cache: Path, told: Told) -> None:
    running = StageCache(cache)
    with running.job(JOBS[2]), running.attempt(cache.parent / "4" / "result.json"):
        running.get("tune", {"seed": 2}, compute)
        assert told(cache).endswith(f"3 entries, {size(cache)}; 0 unused, 0 stale\n")
        assert told(cache, "--prune", "unused") == "freed 0 bytes: 0 entries\n"
        assert (cache / name("tune", 2)).exists()


def test_what_killed_processes_left_goes(cache: Path, told: Told, tmp_path: Path) -> None:
    finish(cache, JOBS[2], tmp_path / "3" / "result.json", 2, ("tune",))
    killed = StageCache(cache)
    for job_id, output in (("d" * 16, tmp_path / "4"), ("e" * 16, tmp_path / "gone")):
        ending = pytest.raises(KeyboardInterrupt)
        with ending, killed.job(job_id), killed.attempt(output / "result.json"):
            raise KeyboardInterrupt
    (tmp_path / "4").mkdir()
    (cache / name("tune", 5, ".safetensors.1.tmp")).touch()
    (cache / "jobs" / ("f" * 16)).write_text("/of/another/format")
    told(cache, "--prune", "unused")
    left = [f"jobs/{job_id}" for job_id in (*JOBS, "d" * 16)]  # the last is yet to be marked
    assert files(cache) == sorted([*left, name("tune", 1), name("tune", 2), name("score", 1)])


def test_other_folders_are_left_alone(cache: Path, told: Told, tmp_path: Path) -> None:
    assert told(tmp_path / "nowhere", "--prune", "all") == f"no cache at {tmp_path / 'nowhere'}\n"
    foreign = [cache / "tune" / "thesis.tex", cache / "notes.txt", cache / "tune" / "folder" / "x"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.touch()
        before = files(cache, "**/*")
        where = path.parent if path.parent.name == "folder" else path
        error = f"error: {cache}: not a cache: it holds {where.relative_to(cache)}\n"
        for options in ([], ["--prune", "all"]):
            assert told(cache, *options, code=1) == error
        assert files(cache, "**/*") == before
        path.unlink()
    file = tmp_path / "file"
    file.touch()
    assert told(file, code=1) == f"error: {file}: not a cache: not a folder\n"


def test_a_dry_run_needs_something_to_prune(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), "--dry-run"])
    assert stopped.value.code == 2
