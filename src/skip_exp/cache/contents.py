"""What a cache folder holds, which of it is still of use, and how it is removed."""

import os.path
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from skip_exp.cache.store import JOBS, entry_name, read_about, read_pointer
from skip_exp.cache.versions import STAGES
from skip_exp.errors import SkipError

# <name>.safetensors in a stage's folder, <job id> in the one of the jobs; .lock and *.tmp in both.
_FILE = re.compile(r"(?P<name>[0-9a-f]{16,32})(?P<kind>|\.safetensors|\.lock|.*\.tmp)")


@dataclass
class Group:
    """The files of one entry, or of one job's pointer; one lock guards them."""

    folder: Path
    name: str
    main: Path | None = None  # the entry or the pointer
    temporary: list[Path] = field(default_factory=list)  # what a killed process left

    @property
    def lock(self) -> Path:
        return self.folder / f"{self.name}.lock"

    @property
    def is_job(self) -> bool:
        return self.folder.name == JOBS


@dataclass(frozen=True)
class Stored:
    """One entry, as the list shows it."""

    path: Path
    label: dict[str, Any]  # {task, backbone, prompt, seed, attribution}, as far as they are known
    size: int  # bytes
    age: float  # seconds
    users: int  # jobs with a result, or running
    stale: bool  # computed by another version of the code: never loaded any more
    damaged: bool  # cannot be read: computed anew where it is needed

    @property
    def stage(self) -> str:
        return self.path.parent.name


def scan(folder: Path) -> list[Group]:
    """The files of a cache, by what they belong to.

    Raises:
        SkipError: ``folder`` holds anything that a cache does not.
    """
    if not folder.is_dir():
        raise SkipError(f"{folder}: not a cache: not a folder")
    groups: dict[tuple[str, str], Group] = {}
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        inside, match = path.parent, _FILE.fullmatch(path.name)
        if inside == folder and path.is_dir():
            continue
        if inside == folder or match is None or path.is_dir():
            raise SkipError(f"{folder}: not a cache: it holds {path.relative_to(folder)}")
        group = groups.setdefault((inside.name, match["name"]), Group(inside, match["name"]))
        if match["kind"].endswith(".tmp"):
            group.temporary.append(path)
        elif match["kind"] != ".lock":
            group.main = path
    return list(groups.values())


def entries(groups: Sequence[Group]) -> list[Stored]:
    """The entries among ``groups``, by stage and label."""
    users: Counter[str] = Counter()
    for group in groups:
        if group.is_job and group.main and _counts(group.main, group.lock):
            users.update(read_pointer(group.main).entries)
    files = [(group, group.main) for group in groups if group.main and not group.is_job]
    stored = [_stored(path, users[f"{path.parent.name}/{group.name}"]) for group, path in files]
    return sorted(
        stored, key=lambda entry: (entry.stage, [*map(str, entry.label.values())], entry.age)
    )


def _stored(path: Path, users: int) -> Stored:
    about, status = read_about(path), path.stat()
    stage, damaged = path.parent.name, not about
    current = stage in STAGES and (damaged or path.stem == entry_name(stage, about["key"]))
    age = time.time() - status.st_mtime
    return Stored(path, about.get("label", {}), status.st_size, age, users, not current, damaged)


def _counts(pointer: Path, lock: Path) -> bool:
    """Whether a job has left a result that still exists, or runs at the moment."""
    job = read_pointer(pointer)
    result_files = [job.result, job.started and job.started / "result.json"]
    return any(file and os.path.isfile(file) for file in result_files) or is_held(lock)


def _tells_nothing(pointer: Path, lock: Path) -> bool:
    """Whether a pointer may go: no result, and no killed attempt that is yet to be marked."""
    killed = read_pointer(pointer).started
    return not _counts(pointer, lock) and not (killed and os.path.isdir(killed))


def is_held(lock: Path) -> bool:
    """Whether another process holds ``lock``, or may do so: one that is not ours to take."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock).acquire(blocking=False):
            return False
    except (Timeout, OSError):
        return True


def to_prune(
    groups: Sequence[Group], stored: Sequence[Stored], which: str
) -> list[tuple[Group, list[Path]]]:
    """The files of each group that are to go, beside its lock.

    Args:
        which: ``unused``, ``stale`` or ``all``: which entries, beside the damaged ones.
    """
    by_path = {entry.path: entry for entry in stored}

    def goes(group: Group, path: Path) -> bool:
        if which == "all":
            return True
        if group.is_job:
            return _tells_nothing(path, group.lock)
        entry = by_path[path]
        return entry.damaged or (entry.stale if which == "stale" else entry.users == 0)

    return [
        (group, group.temporary + [path for path in [group.main] if path and goes(group, path)])
        for group in groups
    ]


def remove(group: Group, files: Sequence[Path], dry_run: bool = False) -> int | None:
    """Delete ``files`` and the group's lock; bytes freed, or None where the lock is held.

    The lock goes while it is held: who waits for it sees that its file is gone, and starts anew.
    """
    if dry_run:
        return None if is_held(group.lock) else sum(path.stat().st_size for path in files)
    lock = FileLock(group.lock)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    freed = 0
    try:
        for path in files:
            if path.exists():
                freed += path.stat().st_size
                path.unlink()
        group.lock.unlink(missing_ok=True)
    finally:
        lock.release()
    return freed
