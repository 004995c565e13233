"""What this process started, shared by the callback and the jobs, which Hydra calls by itself."""

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock


@dataclass
class State:
    """Where the results go, and whether a job failed in this process."""

    folder: Path | None = None  # None until a job or a sweep starts
    multirun: bool = False
    failed: bool = False
    lock: FileLock | None = None  # of that folder, held until the process ends


STARTED = State()
