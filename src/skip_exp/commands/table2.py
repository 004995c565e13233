"""``skip-exp table2``: run the reconstruction's sweep and write its table.

Resumable: what has a result is not waited for again, and the table shows what is still missing.
"""

import argparse
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from skip_exp.errors import SkipError
from skip_exp.report import frame
from skip_exp.report import grid as grids
from skip_exp.report.grid import Grid
from skip_exp.report.reconstruction import Plan, to_latex, to_markdown
from skip_exp.report.tables import save
from skip_exp.utils import hub

SWEEPS = {"paper": "table2", "offline": "table2_offline"}


def plan(profile: str, overrides: Sequence[str]) -> Plan:
    """Choose the profile (``auto``) and the data by what can be reached.

    Raises:
        SkipError: the sweep file or an override does not compose.
    """
    reachable = hub.hub_reachable()
    why = "" if profile == "auto" else "asked for; "
    why += "the model hub can be reached" if reachable else "the model hub cannot be reached"
    if profile == "auto":
        profile = "paper" if reachable else "offline"
    source, where = "hub", "data: hub, no stand-ins"
    if profile != "paper":
        source, where = _data(grids.read(SWEEPS[profile], overrides), reachable)
    given = [*overrides, f"data.source={source}"]
    return Plan(grids.read(SWEEPS[profile], given), profile, f"{why}; {where}", source, given)


def _data(grid: Grid, reachable: bool) -> tuple[str, str]:
    """Where the rows of every task of the grid are: ``data.source`` and words for it."""
    folder = os.environ.get("SKIP_EXP_DATA")
    if folder and all((Path(folder) / task).is_dir() for task in grid.task_configs):
        return "local", "data: local folder"
    if reachable:
        return "hub", "data: hub"
    try:
        for task in grid.task_configs.values():
            load_from_hub(task)
    except SkipError:
        return "sample", "no real data (SKIP_EXP_DATA is not set or lacks a task): generated rows"
    return "hub", "data: what the hub's cache has"


def load_from_hub(task: dict[str, Any]) -> None:
    """Raise SkipError where the hub, or its cache, does not have the task's rows."""
    from skip_exp.data.sources import load_task  # takes seconds to import: only where asked
    from skip_exp.data.spec import task_spec  # takes seconds to import: only where asked

    load_task(task_spec(OmegaConf.create(task)), "hub", None, allow_sample=False)


def estimate(grid: Grid, answers: pd.DataFrame) -> float | None:
    """Seconds the remaining jobs take, by what finished ones of their backbone took."""
    done = answers[answers["status"] == "done"]
    typical = done.groupby("backbone")["seconds/total"].mean()
    seconds = grid.remaining(answers)["backbone"].map(typical).fillna(done["seconds/total"].mean())
    return None if seconds.isna().any() else float(seconds.sum())


def progress(grid: Grid, answers: pd.DataFrame) -> str:
    """``12 of 36 jobs done, 24 remain: about 40 min``"""
    left, every = len(grid.remaining(answers)), len(grid.jobs)
    text = f"{every - left} of {every} jobs done"
    if not left:
        return text
    seconds = estimate(grid, answers)
    if seconds is None:
        time = f"no estimate before the first result (Cost: in sweeps/{grid.name}.yaml)"
    elif seconds < 60:
        time = "about a minute"
    else:
        minutes = seconds / 60
        time = f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
    return f"{text}, {left} remain: {time}"


def run(chosen: Plan) -> bool:
    """Run the sweep in the foreground; whether it was interrupted. It skips what is done."""
    print(f"running: {shlex.join(chosen.command)}", flush=True)
    interruptions: list[int] = []
    # Ctrl-C reaches the sweep as well; it is waited for, so that it can close its job.
    before = signal.signal(signal.SIGINT, lambda number, _: interruptions.append(number))
    try:
        subprocess.run(chosen.command, check=False)
    except KeyboardInterrupt:  # SIGTERM reaches nobody else, so that this ends the sweep
        return True
    finally:
        signal.signal(signal.SIGINT, before)
    return bool(interruptions)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 complete, 1 not, 130 interrupted; the table is written in any case."""
    parser = argparse.ArgumentParser(prog="skip-exp table2", description=__doc__)
    parser.add_argument("--profile", choices=["auto", *SWEEPS], default="auto")
    parser.add_argument("--results", nargs="+", default=["outputs"], metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("outputs/table2"), metavar="DIR")
    parser.add_argument("--no-run", action="store_true", help="only write the table")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every job")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        return _main(options)
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nerror: interrupted", file=sys.stderr)
        return 130


def _main(options: argparse.Namespace) -> int:
    chosen = plan(options.profile, options.overrides)
    grid = chosen.grid

    def answered() -> pd.DataFrame:
        folders = [folder for folder in options.results if Path(folder).exists()]
        answers = grid.answers(frame.read(folders), chosen.source)
        print(f"{grid.name}: {progress(grid, answers)}", flush=True)
        return answers

    print(f"profile {chosen.profile}: {chosen.why}", flush=True)
    if chosen.rehearsal:
        print("this is a rehearsal on generated data: its output is no result", flush=True)
    answers, interrupted = answered(), False
    if old := ((answers["status"] == "done") & ~grids.is_current(answers)).sum():
        print(f"{old} results of another version of the code: their jobs are run again", flush=True)
    if len(grid.remaining(answers)) and not options.no_run:
        interrupted, answers = run(chosen), answered()
    out = options.out
    if chosen.rehearsal:
        out = out.with_name(f"{out.name}-rehearsal")
    text = to_markdown(chosen, answers)
    files = {out / "table2.md": text, out / "table2.tex": to_latex(chosen, answers)}
    save(files)
    print(text)
    print(f"written: {', '.join(map(str, files))}")
    return 130 if interrupted else int(len(grid.remaining(answers)) > 0)
