"""Where a task's files are: the user's and those of the package. Imports no pandas."""

import os
from pathlib import Path

from skip_exp.config.task import TaskConfig

ENV_DIR = "SKIP_EXP_DATA"
SUFFIXES = (
    *(".jsonl", ".json", ".csv", ".tsv", ".parquet"),
    *(".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz"),
)
EMBEDDED_TASKS = {"banking77": "banking77", "rte": "snli_pairs"}  # task: its folder in embedded/
SELECT = "select"  # an optional split that replaces the selection slice of train
STAND_IN = "embedded:snli_pairs"  # the source whose rows are not the task's own


def local_files(spec: TaskConfig, dir: str | None) -> dict[str, Path]:
    """The files of a task's splits: {split: file}, those of a folder as far as they exist.

    Args:
        dir: folder laid out as ``<dir>/<task>/<split>.jsonl``; None = environment SKIP_EXP_DATA.
    """
    if spec.files:
        known = (*spec.splits, SELECT)
        return {name: Path(spec.files[name]).expanduser() for name in known if name in spec.files}
    root = dir or os.environ.get(ENV_DIR)
    if not root:
        return {}
    folder = Path(root).expanduser() / spec.name
    found: dict[str, Path] = {}
    for split in (*spec.splits, SELECT):
        # A validation split that the hub calls otherwise may be named ``validation``, too.
        names = (split, "validation") if split == spec.validation else (split,)
        files = (folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
        existing = next(filter(Path.exists, files), None)
        if existing:
            found[split] = existing
    return found


def find_embedded_files(spec: TaskConfig) -> dict[str, Path]:
    """The task's files in the package: {split: file}; empty if it is not embedded."""
    if spec.name not in EMBEDDED_TASKS or spec.extra:
        return {}
    folder = Path(__file__).parent / "embedded" / EMBEDDED_TASKS[spec.name]
    return {spec.train: folder / "train.parquet", spec.validation: folder / "validation.parquet"}
