"""The summary after the last job.

It reads the result files, because jobs may run in other processes (joblib, submitit).
"""

import os
import re
import shlex
import sys
from pathlib import Path

from skip_exp import results
from skip_exp.results import Result
from skip_exp.sweep import progress
from skip_exp.sweep.state import STARTED


def finish() -> bool:
    """Show the results of this command's jobs; return whether all of them are done."""
    folder = STARTED.folder
    if folder is None or not folder.is_dir():
        return not STARTED.failed
    found = sorted(results.load(sorted(_new(folder, results.FILE))), key=_number)
    done = [result for result in found if result.status == "done"]
    started = {file.parents[1] for file in _new(folder, ".hydra/config.yaml")}
    lost = sorted(job.name for job in started - {Path(str(result.path)).parent for result in found})
    if found and (STARTED.multirun or not STARTED.failed):
        from skip_exp.report import tables  # it brings pandas, for which no job should wait

        tables.show(found)
    for name in lost:
        print(f"error: {name}: ended without a result", file=sys.stderr)
    if STARTED.multirun and not (found or lost):  # workers elsewhere, or a failed launcher
        print(f"error: {os.path.relpath(folder)}: no job left a result there", file=sys.stderr)
    if STARTED.multirun or (done and not STARTED.failed):
        print(f"results: {os.path.relpath(folder)}")
    if STARTED.multirun:
        print(f"report:  skip-exp report {shlex.quote(os.path.relpath(folder))}")
    elif done and not STARTED.failed:
        print(results.next_steps(done[0]))
    return 0 < len(done) == len(found) and not lost and not STARTED.failed


def _new(folder: Path, name: str) -> list[Path]:
    """This command's files ``name`` in its job folders: an earlier sweep may have left others.

    A reused result is written anew.
    """
    if not STARTED.multirun:
        return [file for file in [folder / name] if file.is_file()]
    began = progress.start_of(folder)
    return [file for file in folder.rglob(name) if file.stat().st_mtime >= began]


def _number(result: Result) -> tuple[int, str]:
    """Job order: ``10-...`` comes after ``2-...``."""
    name = Path(str(result.path)).parent.name
    number = re.match(r"\d+", name)
    return int(number.group()) if number and STARTED.multirun else 0, name
