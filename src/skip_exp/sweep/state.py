"""What the command of this process started.

Hydra makes the callback by itself and calls the job by itself: they and the end of the command,
which tells of them, meet here.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class State:
    """Where the results go, and whether a job failed in this process."""

    folder: Path | None = None  # None until a job or a sweep starts
    multirun: bool = False
    failed: bool = False


STARTED = State()
