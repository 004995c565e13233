"""Files: written whole or not at all, their stamps and content, locks, and untrusted JSON."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from skip_exp.errors import SkipError

Stamp = tuple[tuple[str, int, int], ...]


def replace(path: Path, content: bytes) -> None:
    """Write ``path`` through a temporary file beside it. Raises OSError; leaves no half file."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # a rename may outlive a crash that its content does not
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def stamp(*paths: Path) -> Stamp:
    """Path, size and time of the last change (ns) of files, and of folders' files.

    Equal while they stay. What is not there or cannot be read is left out: its reader says so.
    """
    found: list[tuple[str, int, int]] = []
    for path in paths:
        try:
            inside = sorted(path.iterdir()) if path.is_dir() else [path]
            stats = [(str(file), file.stat()) for file in inside if file.is_file()]
        except OSError:
            continue
        found += [(name, about.st_size, about.st_mtime_ns) for name, about in stats]
    return tuple(found)


def content(paths: Mapping[str, Path]) -> str:
    """SHA-256 over files and what they are called here; empty where one cannot be read.

    Files are read once per process while they stay.
    """
    stamps = {name: stamp(path) for name, path in paths.items()}
    if not (paths and all(stamps.values())):
        return ""
    try:
        return _content(tuple((name, *stamps[name]) for name in sorted(stamps)))
    except OSError:
        return ""


@lru_cache(maxsize=16)
def _content(files: tuple[tuple[str, tuple[str, int, int]], ...]) -> str:
    digest = hashlib.sha256()
    for name, (path, *_) in files:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name}{Path(path).suffix} {found}\n".encode())
    return digest.hexdigest()


@contextmanager
def full_disk_is_refused(output: Path) -> Iterator[None]:
    """Turn a full disk, or an exhausted quota, into one line. Raises SkipError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename2 or error.filename or f"output_dir={output}"
        raise SkipError(f"{where}: cannot be written: {error.strerror}") from error


def machine_lock(name: str) -> FileLock:
    """A lock between the processes of this user on this machine.

    Not between users: filelock opens no lock file of another user in a shared folder.
    """
    return FileLock(Path(tempfile.gettempdir()) / f"skip_exp-{os.getuid()}-{name}.lock")


def parse_json(content: str | bytes) -> Any:
    """The value that ``content`` holds.

    Raises:
        ValueError: not JSON, an object that names a key twice, nested too deep to be read, or a
            text with half a character, which no file and no terminal takes.
    """
    try:
        value = json.loads(content, object_pairs_hook=_unique)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except UnicodeEncodeError as error:
        raise ValueError("half a character stands alone in a text") from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(key for key in value if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"key {twice!r} stands there twice")
    return value
