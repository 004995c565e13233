"""Files and folders: written whole or not at all, their stamps, and locks."""

import logging
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from skip_exp.errors import SkipError

log = logging.getLogger(__name__)

Stamp = tuple[tuple[str, int, int], ...]


def replace(path: Path, content: bytes) -> None:
    """Write ``path`` through a temporary file beside it. Raises OSError; leaves no half file."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(content)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # a rename may outlive a crash that its content does not
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save(path: Path, content: bytes, setting: str = "") -> None:
    """Write ``path`` whole, in a folder that may be new.

    Args:
        setting: the key and value that gave the place, for the message.

    Raises:
        SkipError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, content)
    except OSError as error:
        raise SkipError(f"{setting or path}: cannot be written: {error.strerror}") from error


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` at the end of the block. Raises SkipError."""
    check_out(out)
    out = out.resolve()  # the folder that a link names
    # Containers share folders, and numbers of processes.
    temporary = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, out)
    except OSError as error:
        raise SkipError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_out(out: Path) -> None:
    """Raise SkipError unless ``out`` is a new or empty folder."""
    if os.path.ismount(out.resolve()):  # the folder is written beside `out`, then gets its name
        raise SkipError(f"{out}: is a mount point: give a new folder in it")
    # Not Path.exists, which raises where it may not look.
    if os.path.exists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise SkipError(f"{out}: exists and is not an empty folder")
    above = next(folder for folder in out.resolve().parents if os.path.exists(folder))
    if not os.access(above, os.W_OK):
        raise SkipError(f"{out}: cannot be written: no permission in {above}")


def in_full(path: str) -> str:
    """A folder's full path, which holds in any working directory; another ``path`` as it is."""
    folder = Path(path).expanduser()
    return str(folder.resolve()) if folder.is_dir() else path


def find_suffix(path: Path) -> str:
    """The ending that names a file's format, in lower case; of a compressed file ``.csv.gz``."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() + suffix if suffix == ".gz" else suffix


def stamp(*paths: Path) -> Stamp:
    """Path, size and time of the last change (ns) of files, and of the files in folders.

    Missing and unreadable files are left out; their reader reports them.
    """
    stamps: list[tuple[str, int, int]] = []
    for path in paths:
        try:
            inside = sorted(path.iterdir()) if path.is_dir() else [path]
            stats = {file: file.stat() for file in inside if file.is_file()}
        except OSError:
            continue
        for file, status in stats.items():
            stamps.append((str(file), status.st_size, status.st_mtime_ns))
    return tuple(stamps)


def machine_lock(name: str) -> FileLock:
    """A lock between the processes of this user on this machine, in the user's cache folder.

    A home may be shared by several machines, so the file is named after this one.

    Raises:
        RuntimeError: the user has no home.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return FileLock(Path(cache) / "skip_exp" / f"{platform.node()}-{name}.lock")


@contextmanager
def hold_machine(name: str, action: str) -> Iterator[None]:
    """Hold a :func:`machine_lock` within the block. Without one, a warning says so.

    Args:
        action: of this process and others, as in :func:`acquire`.
    """
    # A stack, because the block must run without the lock, too, and its errors pass through.
    with ExitStack() as held:
        try:
            lock = machine_lock(name)
            acquire(lock, action)
            held.callback(lock.release)
        except (OSError, RuntimeError) as error:
            log.warning("no lock for %s: %s; two at once disturb each other", name, error)
        yield


def acquire(lock: FileLock, action: str) -> None:
    """Take ``lock``; a log line says so where another process holds it.

    Args:
        action: of the other process, e.g. ``runs the same job``.

    Raises:
        OSError: the lock's file cannot be written.
    """
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("waiting for another process, which %s (%s)", action, lock.lock_file)
        lock.acquire()
