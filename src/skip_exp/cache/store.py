"""The stage cache: one safetensors file per entry, written whole or not at all.

A file holds the tensors, and a JSON part with a SHA-256 over both. A damaged entry is computed
again. Each key has a lock, so that several processes of a sweep compute a stage once.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from skip_exp.cache.versions import JOBS, digest, stage_version
from skip_exp.utils import files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """The output of a stage: tensors and JSON values.

    Attributes:
        hit: whether it came from the cache.
        keep: whether other jobs may use it.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    hit: bool = False
    keep: bool = True


def entry_name(stage: str, key: Mapping[str, Any]) -> str:
    """File name of a stage's entry for ``key``, by this version of the code."""
    return digest({"key": key, "code": stage_version(stage)})[:32]


class StageCache:
    """Entries under ``folder/<stage>/<name>.safetensors``; without a folder nothing is stored.

    A cache that cannot be written causes one warning.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._has_warned = False

    def get(self, stage: str, key: Mapping[str, Any], compute: Callable[[], Entry]) -> Entry:
        """The entry of ``stage`` for ``key``, computed if missing.

        Waits for another process that computes the same entry.
        """
        if self.folder is None:
            return compute()
        path = self.folder / stage / f"{entry_name(stage, key)}.safetensors"
        with self.held(path) as is_held:
            if entry := read_entry(path):  # it appears whole, so no lock is needed
                with suppress(OSError):  # a read-only cache
                    os.utime(path)  # `skip-exp cache prune` goes by the last use
                return entry
            entry = compute()
            if is_held and entry.keep:
                with self.warned("entry not kept"):
                    write_entry(path, entry, {"stage": stage, "key": dict(key)})
            return entry

    @contextmanager
    def held(self, path: Path) -> Iterator[bool]:
        """Hold the lock of ``path``; False where the folder cannot be written, only read."""
        stage = path.parent.name
        what = "runs the same job" if stage == JOBS else f"computes the same stage, {stage}"
        lock = FileLock(path.with_suffix(".lock"))
        with self.warned("cannot be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.acquire(lock, what)
            for leftover in path.parent.glob(f"{path.stem}*.tmp"):  # of a killed process
                leftover.unlink(missing_ok=True)
        try:
            yield lock.is_locked
        finally:
            lock.release()

    @contextmanager
    def warned(self, what: str) -> Iterator[None]:
        """Turn an OSError into a warning, once."""
        try:
            yield
        except OSError as error:
            if not self._has_warned:
                log.warning("cache.dir=%s: %s: %s", self.folder, what, error)
            self._has_warned = True


def write_entry(path: Path, entry: Entry, about: Mapping[str, Any]) -> None:
    """Write an entry so that the file appears whole or not at all. Raises OSError."""
    values = json.dumps({"about": about, "values": entry.values}, sort_keys=True, default=str)
    tensors = {name: t.detach().cpu().contiguous() for name, t in entry.tensors.items()}
    metadata = {"json": values, "sha256": _checksum(tensors, values)}
    files.replace(path, save(tensors, metadata))


def read_entry(path: Path) -> Entry | None:
    """The entry in ``path``, or None where there is none that can be trusted."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["sha256"] != _checksum(tensors, metadata["json"]):
            raise ValueError("checksum does not match")
        return Entry(tensors, dict(files.parse_json(metadata["json"])["values"]), hit=True)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        log.warning("cache: %s is damaged (%s) and will be computed again", path.name, error)
        return None


def _checksum(tensors: dict[str, Tensor], values: str) -> str:
    content = hashlib.sha256(values.encode())
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        content.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
