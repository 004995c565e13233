"""Stage cache: a phase whose inputs are unchanged is loaded, not run again.

One entry is one safetensors file: the tensors, and a JSON part with a SHA-256 over both, checked on
load, so that a truncated or altered entry is recomputed and never believed. Written to a temporary
file and renamed under a lock per key: several processes on one sweep compute a stage once.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).parent
# What a stage's numbers depend on, beside its key: edits elsewhere leave its entries valid.
SOURCES = {
    "tune": ("models", "data", "tuning.py"),
    "attribute": ("models", "data", "tuning.py", "attribution"),
    "score": ("models", "data", "tuning.py"),
    "job": ("pruning", "callbacks", "job.py", "pipeline.py", "outcome.py", "benchmark.py"),
}


@dataclass(frozen=True)
class Entry:
    """What a stage leaves behind: tensors and JSON values; ``hit`` says where it came from."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    hit: bool = False


def digest(value: object) -> str:
    """SHA-256 of a JSON-like value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@lru_cache
def code_version(stage: str) -> str:
    """Hash of the stage's own sources and of the libraries that compute it; never the commit."""
    content = hashlib.sha256()
    for part in SOURCES[stage]:
        root = PACKAGE / part
        for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            content.update(file.relative_to(PACKAGE).as_posix().encode() + file.read_bytes())
    for library in ("torch", "transformers"):
        content.update(version(library).encode())
    return content.hexdigest()


class StageCache:
    """Entries under ``folder/<stage>/<key>.safetensors``; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @contextmanager
    def job(self, job_id: str) -> Iterator[Path | None]:
        """Hold the job: a second process that was given the same one waits for the first.

        Yields the ``result.json`` of an earlier run that finished, if there is one; it may have
        been deleted since.
        """
        if self.folder is None:
            yield None
            return
        pointer = self.folder / "jobs" / job_id
        try:
            pointer.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{pointer}.lock")
            lock.acquire()
        except OSError as error:
            log.warning("cache.dir=%s: cannot be written (%s); going on", self.folder, error)
            yield None
            return
        try:
            yield Path(pointer.read_text()) if pointer.is_file() else None
        finally:
            lock.release()

    def remember(self, job_id: str, result: Path) -> None:
        """Note where a finished job's ``result.json`` lies."""
        if self.folder is None:
            return
        pointer = self.folder / "jobs" / job_id
        temporary = pointer.with_suffix(f".{os.getpid()}.tmp")
        try:
            temporary.write_text(str(result.resolve()))
            os.replace(temporary, pointer)
        except OSError as error:
            log.warning("cache.dir=%s: job not noted: %s", self.folder, error)

    def get(self, stage: str, key: Mapping[str, Any], compute: Callable[[], Entry]) -> Entry:
        """The entry of ``stage`` for ``key``, computed by ``compute`` where there is none.

        Another process that computes the same entry is waited for. A cache that cannot be written
        costs a warning, not the result.
        """
        if self.folder is None:
            return compute()
        name = digest({"key": key, "code": code_version(stage)})[:32]
        path = self.folder / stage / f"{name}.safetensors"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock"))
            lock.acquire()
        except OSError as error:
            log.warning("cache.dir=%s: cannot be written (%s); going on", self.folder, error)
            return compute()
        try:
            entry = read_entry(path)
            if entry is None:
                entry = compute()
                self._store(path, entry, {"stage": stage, "key": dict(key)})
            return entry
        finally:
            lock.release()

    def _store(self, path: Path, entry: Entry, about: dict[str, Any]) -> None:
        try:
            write_entry(path, entry, about)
        except OSError as error:
            log.warning("cache.dir=%s: entry not kept: %s", self.folder, error)


def write_entry(path: Path, entry: Entry, about: dict[str, Any]) -> None:
    """Write an entry so that the file appears whole or not at all. Raises OSError."""
    values = json.dumps({"about": about, "values": entry.values}, sort_keys=True, default=str)
    tensors = {name: t.detach().cpu().contiguous() for name, t in entry.tensors.items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    os.close(handle)
    try:
        metadata = {"json": values, "sha256": _checksum(tensors, values)}
        # safetensors refuses a file without tensors on some versions: an empty marker is enough
        save_file(tensors or {"none": torch.empty(0)}, temporary, metadata)
        os.replace(temporary, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


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
        return Entry(tensors, json.loads(metadata["json"])["values"], hit=True)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        log.warning("cache: %s is damaged (%s) and will be computed again", path.name, error)
        return None


def _checksum(tensors: dict[str, Tensor], values: str) -> str:
    content = hashlib.sha256(values.encode())
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        content.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
