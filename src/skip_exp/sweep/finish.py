"""What a command started, and the summary after its last job.

The summary reads the result files, because jobs may run in other processes (joblib, submitit).
"""

import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from skip_exp import results
from skip_exp.errors import ConfigError, first_line

LOCK = ".lock"  # in the folder of the results

SWEEP = "multirun.yaml"  # written before the first job of a sweep starts


@dataclass
class State:
    """Where the results go, and whether a job failed in this process."""

    folder: Path | None = None  # None until the command is checked
    multirun: bool = False
    failed: bool = False
    lock: FileLock | None = None  # of that folder, held until the process ends


_state = State()  # the callback and the jobs, which Hydra calls by itself, change it from here


def claim(folder: Path, multirun: bool) -> None:
    """Note the folder of the results, and hold it until the command ends.

    Two commands there would take each other's jobs for their own.

    Raises:
        ConfigError: another command holds it, or it cannot be written.
    """
    key = "hydra.sweep.dir" if multirun else "hydra.run.dir"
    _state.lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _state.lock.acquire(blocking=False)
    except Timeout as error:
        advice = "another command writes there: wait for it, or name another folder"
        raise ConfigError(key, folder, advice) from error
    except OSError as error:
        raise ConfigError(key, folder, f"cannot be written: {first_line(error)}") from error
    _state.folder = folder
    _state.multirun = multirun


def note_failure() -> None:
    """Note that a job failed in this process."""
    _state.failed = True


def started_folder() -> Path | None:
    """Where the results go; None until the command is checked."""
    return _state.folder


def finish() -> bool:
    """Show the results of this command's jobs; return whether all of them are done."""
    folder = _state.folder
    if folder is None:
        return not _state.failed
    written = sorted(results.load(sorted(list_new(folder, results.FILE))), key=_number)
    done = [result for result in written if result.status == "done"]
    # Hydra has written the configuration of each job that has begun.
    lost = {file.parents[1] for file in list_new(folder, ".hydra/config.yaml")}
    for result in written:
        lost.discard(Path(str(result.path)).parent)
    if written and (_state.multirun or not _state.failed):
        from skip_exp.report import tables  # it brings pandas, for which no job should wait

        tables.show_jobs(written)
    for job in sorted(lost):
        print(f"error: {job.name}: ended without a result", file=sys.stderr)
    shown_folder = os.path.relpath(folder)
    if _state.multirun:
        if not (written or lost):  # workers elsewhere, or a failed launcher
            print(f"error: {shown_folder}: no job left a result there", file=sys.stderr)
        print(f"results: {shown_folder}")
        print(f"report:  skip-exp report {shlex.quote(shown_folder)}")
    elif done and not _state.failed:
        print(f"results: {shown_folder}")
        if done[0].choice.model is None:  # else its log has said it
            print(results.next_steps(done[0]))
    return 0 < len(done) == len(written) and not lost and not _state.failed


def list_new(folder: Path, name: str) -> list[Path]:
    """This command's files ``name`` in its job folders: an earlier sweep may have left others.

    A reused result is written anew.
    """
    if not _state.multirun:
        file = folder / name
        return [file] if file.is_file() else []
    return list_since(start_of(folder), folder, name)


def list_since(began: float, sweep_folder: Path, name: str) -> list[Path]:
    """Files ``name`` of a sweep's jobs since then, without those of the jobs inside of a job."""
    depth = len(Path(name).parts)
    listed = []
    for file in sweep_folder.rglob(name):
        is_new = file.stat().st_mtime >= began
        for folder in file.relative_to(sweep_folder).parents[depth:-1]:
            if (sweep_folder / folder / results.CONFIG_FILE).is_file():
                is_new = False
        if is_new:
            listed.append(file)
    return listed


def start_of(sweep_folder: Path) -> float:
    """Start of the latest sweep into this folder, by the clock of its file system; 0 if unknown."""
    file = sweep_folder / SWEEP
    return file.stat().st_mtime if file.is_file() else 0.0


def _number(result: results.Result) -> tuple[int, str]:
    """Job order: ``10-...`` comes after ``2-...``."""
    name = Path(str(result.path)).parent.name
    number = re.match(r"\d+", name)
    return (int(number[0]) if number else 0), name
