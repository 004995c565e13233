"""Where a task's local files are. Imports no pandas: it is asked before any work."""

import os
from pathlib import Path

from skip_exp.config.task import TaskConfig

ENV_DIR = "SKIP_EXP_DATA"
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def local_files(spec: TaskConfig, dir: str | None) -> dict[str, Path]:
    """The files of a task's splits, as far as they exist: {split: file}.

    Args:
        dir: folder laid out as ``<dir>/<task>/<split>.jsonl``; None = environment SKIP_EXP_DATA.
    """
    if spec.files:
        named = [(name, spec.files[name]) for name in spec.splits if name in spec.files]
        paths = {name: Path(file).expanduser() for name, file in named}
        return {name: path for name, path in paths.items() if path.is_file()}
    root = dir or os.environ.get(ENV_DIR)
    if not root:
        return {}
    folder = Path(root).expanduser() / spec.name
    files = {name: split_file(folder, name) for name in spec.splits}
    return {name: file for name, file in files.items() if file}


def split_file(folder: Path, split: str) -> Path | None:
    """The file of a split in a task's folder; None where there is none."""
    files = (folder / f"{split}{suffix}" for suffix in SUFFIXES)
    return next((file for file in files if file.exists()), None)
