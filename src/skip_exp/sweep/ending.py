"""What is told when the jobs of a command have ended.

Jobs may run in other processes (joblib, submitit), so it is told from the result files.
"""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from skip_exp import results
from skip_exp.report import summary
from skip_exp.sweep import progress
from skip_exp.sweep.state import STARTED

STARTED_JOB = ".hydra/config.yaml"  # Hydra writes it as a job starts


def finish() -> bool:
    """Show what the jobs of this command left behind; whether all of them are done."""
    folder = STARTED.folder
    if folder is None or not folder.is_dir():
        return not STARTED.failed
    every = results.load(folder)
    all_results = sorted((r for r in every if _is_own(Path(r["path"]).parent)), key=_number)
    done = [result for result in all_results if result["status"] == "done"]
    lost = _without_result(folder)
    if all_results and (STARTED.multirun or not STARTED.failed):
        _show(all_results)
    for name in lost:
        print(f"error: {name}: ended without a result", file=sys.stderr)
    if STARTED.multirun and not (all_results or lost):  # workers elsewhere, or a failed launcher
        print(f"error: {os.path.relpath(folder)}: no job left a result there", file=sys.stderr)
    if STARTED.multirun or (done and not STARTED.failed):
        print(f"results: {os.path.relpath(folder)}")
        print(f"next:    {_next_command(folder)}")
    return 0 < len(done) == len(all_results) and not lost and not STARTED.failed


def _is_own(job: Path) -> bool:
    """Whether this command left the result there: an earlier sweep may have left others.

    A job that was reused where it lies has its configuration written anew; one that was refused for
    what lies there has not.
    """
    return any(_is_new(job / name) for name in (results.FILE, results.CONFIG))


def _is_new(file: Path) -> bool:
    """Whether the file is there, and not from before this command's sweep."""
    folder = STARTED.folder
    began = progress.start_of(folder) if STARTED.multirun and folder else 0.0
    return file.is_file() and file.stat().st_mtime >= began


def _show(all_results: list[dict[str, Any]]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(summary.table(all_results, console.width))


def _number(result: dict[str, Any]) -> tuple[int, str]:
    """Job order: ``10-...`` comes after ``2-...``."""
    name = Path(result["path"]).parent.name
    number = re.match(r"\d+", name)
    return int(number.group()) if number and STARTED.multirun else 0, name


def _without_result(folder: Path) -> list[str]:
    """Jobs that were started and left nothing: their process was killed."""
    pattern = "*/.hydra" if STARTED.multirun else ".hydra"
    jobs = [path.parent for path in folder.glob(pattern) if _is_new(path.parent / STARTED_JOB)]
    return sorted(job.name for job in jobs if not ((job / results.FILE).is_file() and _is_own(job)))


def _next_command(folder: Path) -> str:
    """After a sweep its report; after a job a sweep over ratios."""
    if STARTED.multirun:
        return f"python -m skip_exp report {os.path.relpath(folder)}"
    replaced = ("prune.ratio=", "prune.max_drop=", "hydra.")
    kept = [arg for arg in sys.argv[1:] if not arg.startswith(replaced)]
    return f"python -m skip_exp {shlex.join(kept)} prune.ratio=0.3,0.5,0.7 -m"
