"""Locks between the processes of one user; what else is in `utils/files.py` its callers test."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from skip_exp.utils import files


def test_no_user_meets_the_lock_file_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """filelock refuses those, so that every job of a second user on a machine failed."""
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    paths = set()
    for user in (1000, 1001):
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        paths.add(files.machine_lock("benchmark").lock_file)
        assert isinstance(files.machine_lock("benchmark"), FileLock)
    assert {Path(path).parent for path in paths} == {tmp_path} and len(paths) == 2
