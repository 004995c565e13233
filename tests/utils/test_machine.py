"""What a timing depends on, who else computes, locks, and what becomes of freed memory."""

import os
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psutil
import pytest

from skip_exp.utils import files, machine, timing

Times = namedtuple("Times", "user nice system idle iowait guest guest_nice")


def test_a_timing_holds_for_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests of a cloud have one name; ARM has none."""
    told = [
        {"model name": "Intel(R) Xeon(R) Processor", "flags": "avx512_bf16"},
        {"model name": "Intel(R) Xeon(R) Processor", "flags": "avx512_bf16 amx_bf16"},
        {"CPU part": "0xd0c"},
        {"CPU part": "0xd4f"},
    ]
    found = set()
    for info in told * 2:
        monkeypatch.setattr(machine, "_cpuinfo", lambda info=info: info)
        found.add(str(timing.describe_place("cpu")))
    assert len(found) == len(told)


def test_load_is_that_of_the_cores_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    idle, busy = Times(0, 0, 0, 10, 0, 0, 0), Times(7, 0, 1, 0, 2, 0, 0)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [busy, idle, busy, busy])
    for ours, seconds in (({0, 1}, 8), ({1}, 0), ({0, 2, 3}, 24), ({8, 9}, 24)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, ours=ours: ours, raising=False)
        assert machine.Load().busy == seconds


@pytest.mark.parametrize(
    ("ours", "logical", "physical", "threads", "free"),
    [
        (2, 2, 2, 2, 0),
        (64, 64, 64, 8, 56),
        (64, 64, 32, 8, 24),
        (64, 64, 32, 32, 0),
        (24, 24, 16, 16, 0),
        (64, 64, None, 8, 0),
        (1, 64, 64, 8, 0),
    ],
)
def test_cores_that_a_measurement_leaves_free(
    monkeypatch: pytest.MonkeyPatch,
    ours: int,
    logical: int,
    physical: int | None,
    threads: int,
    free: int,
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: ours)
    counts = {True: logical, False: physical}
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: counts[logical])
    assert machine.free_cores(threads) == free


def test_beside_a_gpu_others_may_use_all_cores_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "free_cores", lambda threads: 8 - threads)
    monkeypatch.setattr(timing.torch, "get_num_threads", lambda: 8)
    others = iter([0.2, 0.3, 7.2, 7.3])
    monkeypatch.setattr(timing.Load, "others", lambda _: next(others))
    devices = ("cpu", "cpu", "cuda:0", "cuda:0")
    found = [timing.alone(lambda: None, device=device)[1] for device in devices]
    assert found == [False, True, False, True]


@pytest.mark.parametrize("home", ["a file", "none"])
def test_without_a_lock_a_model_is_timed_after_a_warning(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").touch()
    if home == "none":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(os, "getuid", lambda: 10**6)  # as in a container without users
    assert timing.alone(lambda: 3)[0] == 3
    assert [each.levelname for each in caplog.records if "lock" in each.message] == ["WARNING"]


def test_a_compressed_file_has_two_endings() -> None:
    assert files.find_suffix(Path("b.x.CSV.gz")) == ".csv.gz"


def test_writers_of_one_file_never_share_its_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads have one process number, and so may the processes of two containers."""
    written, replace = Barrier(2, timeout=60), os.replace

    def after_both_have_written(*paths: Path) -> None:
        written.wait()
        replace(*paths)

    monkeypatch.setattr(os, "replace", after_both_have_written)
    with ThreadPoolExecutor(2) as pool:
        writes = [pool.submit(files.replace, tmp_path / "x", text) for text in (b"one", b"other")]
    assert [write.exception() for write in writes] == [None, None]
    assert (tmp_path / "x").read_bytes() in (b"one", b"other")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
