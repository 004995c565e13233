"""The stage cache: a stage is a function, its key the hash of its arguments and of the code.

An entry is one safetensors file, written whole or not at all: tensors, and a JSON part. A damaged
entry is computed again. Each key has a lock, so that several processes of a sweep compute a stage
once.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from skip_exp.cache.version import code_of, digest
from skip_exp.errors import SkipError
from skip_exp.utils import files

log = logging.getLogger(__name__)
T = TypeVar("T")

JOB_STAGE = "jobs"  # the stage of finished jobs: files of a job's folder, and its result
UNFINISHED = ("ckpt", "run")  # files beside an entry until it is done: a fit, its W&B run


@dataclass(frozen=True)
class Entry:
    """The output of a stage: tensors and JSON values.

    Attributes:
        hit: whether it came from the cache.
        keep: whether other jobs may use it.
        key: what stands for it in the keys of later stages.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    hit: bool = False
    keep: bool = True
    key: str = ""

    @property
    def found(self) -> str:
        """``hit`` or ``miss``, as results say it."""
        return "hit" if self.hit else "miss"


class Keyed(Generic[T]):
    """A value that counts in keys by its ``key``, and is made when it is needed first.

    Example:
        >>> rows = Keyed(hash_of_file, lambda: read(file))
        >>> rows.value

    Args:
        keep: whether a stage that uses it may be kept.
    """

    def __init__(self, key: str, make: Callable[[], T], keep: bool = True) -> None:
        self.key = key
        self.keep = keep
        self._make = make

    @cached_property
    def value(self) -> T:
        return self._make()


def stage_key(function: Callable[..., Entry], arguments: Mapping[str, Any]) -> str:
    """The key of a stage for these arguments, by this version of the code of its module."""
    code = code_of(function.__module__)
    return digest([function.__name__, dict(arguments), code], _to_plain)[:32]


def _to_plain(value: Any) -> Any:
    """An argument that JSON does not know, as it counts in a key."""
    if isinstance(value, Keyed):
        return value.key
    if is_dataclass(value):
        return vars(value)
    raise TypeError(f"{type(value).__name__} has no key: wrap it in Keyed")


class StageCache:
    """Entries under ``folder/<stage>/<key>.safetensors``; without a folder nothing is stored."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def stage(self, function: Callable[..., Entry], *context: Any, **arguments: Any) -> Entry:
        """``function(*context, **arguments)``, from the cache where these arguments were known.

        Args:
            function: a stage; its name is that of the cache's folder.
            context: what does not affect the result: devices, loggers.
            arguments: what does. A model or a data set is :class:`Keyed`, and the function gets its
                value. One that is not kept leaves no entry, and takes none.
        """
        key = stage_key(function, arguments)

        def compute() -> Entry:
            values = {}
            for name, argument in arguments.items():
                values[name] = argument.value if isinstance(argument, Keyed) else argument
            return function(*context, **values)

        # What depends on a value that no other job may use is not for other jobs either.
        for argument in arguments.values():
            if isinstance(argument, Keyed) and not argument.keep:
                return replace(compute(), key=key, keep=False)
        return self.get(function.__name__, key, compute)

    def get(self, stage: str, key: str, compute: Callable[[], Entry], reuse: bool = True) -> Entry:
        """The entry of ``stage`` for ``key``, computed if missing.

        Waits for another process that computes the same entry.

        Args:
            reuse: False to compute it anew.

        Raises:
            SkipError: the folder cannot be written.
        """
        if self.folder is None:
            return replace(compute(), key=key)
        path = self.folder / stage / f"{key}.safetensors"
        # Another process may be computing the entry, so it is read when the lock is free.
        with self._lock(path):
            stored = read_entry(path) if reuse else None
            if stored:
                return replace(stored, key=key)
            entry = compute()
            if entry.keep:
                tensors = {name: x.detach().cpu().contiguous() for name, x in entry.tensors.items()}
                content = save(tensors, {"json": json.dumps(entry.values, sort_keys=True)})
                files.save(path, content, f"cache.dir={self.folder}")
            for suffix in UNFINISHED:
                path.with_suffix(f".{suffix}").unlink(missing_ok=True)
            return replace(entry, key=key)

    def unfinished(self, stage: str, key: str, name: str) -> Path | None:
        """A file beside an entry that outlives a killed process; gone when the entry is done.

        Args:
            name: one of ``UNFINISHED``.
        """
        return self.folder / stage / f"{key}.{name}" if self.folder else None

    @contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        """Hold the lock of ``path`` within the block. Raises SkipError."""
        lock = FileLock(path.with_suffix(".lock"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.acquire(lock, f"computes the same stage, {path.parent.name}")
            for leftover in path.parent.glob(f"{path.stem}*.tmp"):  # of a killed process
                leftover.unlink(missing_ok=True)
        except OSError as error:
            raise SkipError(
                f"cache.dir={self.folder}: cannot be written: {error.strerror}"
            ) from error
        try:
            yield
        finally:
            lock.release()


def read_entry(path: Path) -> Entry | None:
    """The entry in ``path``; None where there is none, or a damaged one."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            values = json.loads(file.metadata()["json"])
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        log.warning("cache: %s is damaged (%s) and will be computed again", path.name, error)
        return None
    return Entry(tensors, values, hit=True)


def pack_files(folder: Path, names: list[str]) -> dict[str, Tensor]:
    """Files of a folder as the tensors of an entry, by name."""
    return {name: torch.from_numpy(np.fromfile(folder / name, np.uint8)) for name in names}


def unpack_files(entry: Entry, folder: Path) -> None:
    """Write the files that :func:`pack_files` read. Raises SkipError: one cannot be written."""
    for name, content in entry.tensors.items():
        files.save(folder / name, content.numpy().tobytes())
