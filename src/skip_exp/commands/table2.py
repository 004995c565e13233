"""Run the sweep behind the paper's Table 2, and write the reconstructed table.

Example:

    skip-exp table2 --profile offline

The command is resumable: it runs only jobs without a result, and the table shows what is missing.
"""

import logging
import os
import shlex
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from skip_exp.commands.line import one_line_errors, parser
from skip_exp.errors import SkipError
from skip_exp.report import frame
from skip_exp.report import grid as grids
from skip_exp.report.grid import Grid
from skip_exp.report.reconstruction import Plan, to_latex, to_markdown
from skip_exp.report.tables import save
from skip_exp.utils import hub

SWEEPS = {"paper": "table2", "offline": "table2_offline"}
REHEARSAL = "table2_embedded"  # the sweep on rows that come with the package


def plan(profile: str, overrides: Sequence[str]) -> Plan:
    """Choose the profile (``auto``) and the data by what can be reached.

    Raises:
        SkipError: the sweep file or an override does not compose.
    """
    reachable = hub.hub_reachable()
    why = "" if profile == "auto" else "chosen by --profile; "
    why += "the model hub can be reached" if reachable else "the model hub cannot be reached"
    if profile == "auto":
        profile = "paper" if reachable else "offline"
    source, where, sweep = "hub", "data: hub", SWEEPS[profile]
    if profile != "paper":
        source, where = _data(grids.read(sweep, overrides), reachable)
    if source == "embedded":
        sweep = REHEARSAL
    given = [*overrides, f"data.source={source}"]
    return Plan(grids.read(sweep, given), profile, f"{why}; {where}", source, given)


def _data(grid: Grid, reachable: bool) -> tuple[str, str]:
    """Where the rows of every task of the grid are: ``data.source``, and that in words."""
    folder = os.environ.get("SKIP_EXP_DATA")
    if folder and all((Path(folder) / task).is_dir() for task in grid.task_configs):
        return "local", "data: local folder"
    if reachable:
        return "hub", "data: hub"
    try:
        for task in grid.task_configs.values():
            load_from_hub(task)
    except SkipError:
        return "embedded", "data: embedded, because SKIP_EXP_DATA is not set or lacks a task"
    return "hub", "data: what the hub's cache has"


def load_from_hub(task: dict[str, Any]) -> None:
    """Raise SkipError where the hub, or its cache, does not have the task's rows."""
    from skip_exp.data.sources import load_task  # takes seconds to import: only where asked
    from skip_exp.data.spec import task_spec  # takes seconds to import: only where asked

    load_task(task_spec(OmegaConf.create(task)), "hub", None)


def progress(grid: Grid, answers: pd.DataFrame) -> str:
    """``12 of 36 jobs done, 24 remain: about 40 min``

    The estimate is the mean time of finished jobs of the same backbone, else of all.
    """
    left, every = grid.remaining(answers), len(grid.jobs)
    text = f"{every - len(left)} of {every} jobs done"
    if left.empty:
        return text
    done = answers[answers["status"] == "done"]
    typical = done.groupby("backbone")["seconds/total"].mean()
    each = left["backbone"].map(typical).fillna(done["seconds/total"].mean())
    minutes = each.sum(skipna=False) / 60
    if pd.isna(minutes):
        time = f"no estimate before the first result (Cost: in sweeps/{grid.name}.yaml)"
    elif minutes < 1:
        time = "about a minute"
    else:
        time = f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
    return f"{text}, {len(left)} remain: {time}"


def run(chosen: Plan) -> bool:
    """Run the sweep in the foreground; whether it was interrupted. It skips finished jobs."""
    print(f"running: {shlex.join(chosen.command)}", flush=True)
    interruptions: list[int] = []
    # Ctrl-C reaches the sweep as well. Waiting for it lets it close its job.
    before = signal.signal(signal.SIGINT, lambda number, _: interruptions.append(number))
    try:
        subprocess.run(chosen.command, check=False)
    except KeyboardInterrupt:  # SIGTERM reaches this process alone, and this ends the sweep
        return True
    finally:
        signal.signal(signal.SIGINT, before)
    return bool(interruptions)


@one_line_errors(1)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 complete, 1 incomplete, 130 interrupted; the table is always written."""
    line = parser("table2", __doc__)
    about = "backbones and data; auto: paper where the hub can be reached, else offline"
    line.add_argument("--profile", choices=["auto", *SWEEPS], default="auto", help=about)
    line.add_argument("--results", nargs="+", default=["outputs"], metavar="FOLDER")
    line.add_argument("--out", type=Path, default=Path("outputs/table2"), metavar="DIR")
    line.add_argument("--no-run", action="store_true", help="only write the table")
    line.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every job")
    options = line.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        return _main(options)
    except KeyboardInterrupt:
        print("\nerror: interrupted", file=sys.stderr)
        return 130


def _main(options: Namespace) -> int:
    chosen = plan(options.profile, options.overrides)
    grid = chosen.grid

    def answered() -> pd.DataFrame:
        folders = [folder for folder in options.results if Path(folder).exists()]
        answers = grid.answers(frame.read(folders), chosen.source)
        print(f"{grid.name}: {progress(grid, answers)}", flush=True)
        return answers

    print(f"profile {chosen.profile}: {chosen.why}", flush=True)
    if chosen.rehearsal:
        print("this is a rehearsal: these are not the tasks of the table", flush=True)
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
