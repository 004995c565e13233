"""Entries of stages and pointers of jobs, as files that appear whole or not at all.

One entry is one safetensors file: the tensors, and a JSON part with a SHA-256 over both, checked on
load, so that a truncated or altered entry is recomputed and never believed. Written to a temporary
file and renamed under a lock per key: several processes on one sweep compute a stage once.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from skip_exp.cache.versions import digest, stage_version
from skip_exp.utils import files

log = logging.getLogger(__name__)

JOBS = "jobs"  # folder of the pointers, beside one folder per stage


@dataclass(frozen=True)
class Entry:
    """What a stage leaves behind: tensors and JSON values; ``hit`` says where it came from.

    With ``keep`` False it is for the job at hand alone: no other may find it.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    hit: bool = False
    keep: bool = True


@dataclass(frozen=True)
class Pointer:
    """What is noted of a job's attempts; nothing, where there was none."""

    result: Path | None = None  # ``result.json`` of the last one that finished
    entries: tuple[str, ...] = ()  # ``<stage>/<name>`` of every entry that they used
    started: Path | None = None  # output folder of the one that runs or, its lock free, was killed


def entry_name(stage: str, key: Mapping[str, Any]) -> str:
    """Name under which this version of the code keeps the stage's entry for ``key``."""
    return digest({"key": key, "code": stage_version(stage)})[:32]


class StageCache:
    """Entries under ``folder/<stage>/<name>.safetensors``; without a folder nothing is kept.

    One object serves one job. A cache that cannot be written costs one warning, not the result.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._at: Path | None = None  # pointer file of the job that is held
        self._pointer = Pointer()
        self._warned = False

    @contextmanager
    def job(self, job_id: str) -> Iterator[Pointer]:
        """Hold the job: a second process that was given the same one waits for the first.

        Yields what is noted of earlier attempts; the files it names may have been deleted since.
        """
        if self.folder is None:
            yield Pointer()
            return
        at = self.folder / JOBS / job_id
        lock = self._lock(at)
        if lock is None:
            yield Pointer()
            return
        try:
            self._at, self._pointer = at, read_pointer(at)
            yield self._pointer
        finally:
            self._at = None
            lock.release()

    @contextmanager
    def attempt(self, result: Path) -> Iterator[None]:
        """Note an attempt at the job that is held: that it runs, and that it left ``result``."""
        self._note(replace(self._pointer, started=result.resolve().parent))
        try:
            yield
        except Exception:
            # Its own result file tells so; only what was killed or interrupted stays noted.
            self._note(replace(self._pointer, started=None))
            raise
        self._note(Pointer(result.resolve(), self._pointer.entries))

    def get(
        self,
        stage: str,
        key: Mapping[str, Any],
        compute: Callable[[], Entry],
        label: Mapping[str, Any] | None = None,
    ) -> Entry:
        """The entry of ``stage`` for ``key``, computed by ``compute`` where there is none.

        Another process that computes the same entry is waited for. ``label`` tells a reader of the
        cache what the entry is: task, backbone, ...
        """
        if self.folder is None:
            return compute()
        name = entry_name(stage, key)
        path = self.folder / stage / f"{name}.safetensors"
        lock = self._lock(path)
        if lock is None:
            return compute()
        try:
            entry = read_entry(path)
            if entry is not None:
                with suppress(OSError):  # a read-only cache
                    os.utime(path)  # `skip-exp cache prune` goes by the last use
            else:
                entry = compute()
                if not entry.keep:
                    return entry
                about = {"stage": stage, "key": dict(key), "label": dict(label or {})}
                self._store(path, entry, about)
        finally:
            lock.release()
        used = dict.fromkeys((*self._pointer.entries, f"{stage}/{name}"))
        self._note(replace(self._pointer, entries=tuple(used)))
        return entry

    def _lock(self, path: Path) -> FileLock | None:
        """The lock of ``path``, held; None where it cannot be had for lack of a writable folder."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock"))
            lock.acquire()
        except OSError as error:
            self._warn(f"cannot be written ({error}); going on")
            return None
        for leftover in path.parent.glob(f"{path.stem}*.tmp"):  # nobody writes it: we hold the lock
            with suppress(OSError):
                leftover.unlink()
        return lock

    def _store(self, path: Path, entry: Entry, about: dict[str, Any]) -> None:
        try:
            write_entry(path, entry, about)
        except OSError as error:
            self._warn(f"entry not kept: {error}")

    def _note(self, pointer: Pointer) -> None:
        """Make ``pointer`` the one of the job that is held; nothing where none is."""
        changed = pointer != self._pointer
        self._pointer = pointer
        if self._at is None or not changed:
            return
        try:
            write_pointer(self._at, pointer)
        except OSError as error:
            self._warn(f"job not noted: {error}")

    def _warn(self, problem: str) -> None:
        if not self._warned:
            log.warning("cache.dir=%s: %s", self.folder, problem)
        self._warned = True


def write_entry(path: Path, entry: Entry, about: Mapping[str, Any]) -> None:
    """Write an entry so that the file appears whole or not at all. Raises OSError."""
    values = json.dumps({"about": about, "values": entry.values}, sort_keys=True, default=str)
    tensors = {name: t.detach().cpu().contiguous() for name, t in entry.tensors.items()}
    metadata = {"json": values, "sha256": _checksum(tensors, values)}
    # safetensors refuses a file without tensors on some versions: an empty marker is enough
    files.replace(path, save(tensors or {"none": torch.empty(0)}, metadata))


def read_entry(path: Path) -> Entry | None:
    """The entry in ``path``, or None where there is none that can be trusted."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys() if name != "none"}  # noqa: SIM118
        if metadata["sha256"] != _checksum(tensors, metadata["json"]):
            raise ValueError("checksum does not match")
        return Entry(tensors, dict(files.parse_json(metadata["json"])["values"]), hit=True)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        log.warning("cache: %s is damaged (%s) and will be computed again", path.name, error)
        return None


def write_pointer(path: Path, pointer: Pointer) -> None:
    """Write ``pointer``, or remove the file where it tells nothing. Raises OSError."""
    content: dict[str, Any] = {"entries": pointer.entries}
    if pointer.result:
        content["result"] = str(pointer.result)
    if pointer.started:
        content |= {"output": str(pointer.started), "status": "started"}
    if pointer.result or pointer.started:
        files.replace(path, json.dumps(content, indent=1).encode())
    else:
        path.unlink(missing_ok=True)


def read_pointer(path: Path) -> Pointer:
    """What ``path`` notes; nothing where it is missing, unreadable or of another format."""
    try:
        content = files.parse_json(path.read_bytes())
        result, output = content.get("result"), content.get("output")
        return Pointer(
            Path(result) if result else None,
            tuple(map(str, content["entries"])),
            Path(output) if output else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Pointer()


def _checksum(tensors: dict[str, Tensor], values: str) -> str:
    content = hashlib.sha256(values.encode())
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        content.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
