"""Files that appear whole or not at all, whether they changed, locks, and JSON of any author."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock

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
