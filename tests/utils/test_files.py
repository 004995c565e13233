"""Locks between the processes of one user; what else is in `utils/files.py` its callers test."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from skip_exp.utils import files, timing


@pytest.mark.parametrize("home", ["linked", "a file", "none"])
def test_without_a_lock_a_model_is_timed_after_a_warning(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """filelock refuses a link in the lock's place, and everything else that is not a file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if home == "linked":
        place = Path(files.machine_lock("benchmark").lock_file)
        place.parent.mkdir(exist_ok=True, parents=True)
        place.unlink(missing_ok=True)
        place.symlink_to(tmp_path / "elsewhere")
    elif home == "a file":
        (tmp_path / "cache").touch()
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(os, "getuid", lambda: 10**6)  # as in a container without users
    try:
        assert timing.alone(lambda: 3)[0] == 3
    finally:
        if home == "linked":
            place.unlink()
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
