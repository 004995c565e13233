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
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from skip_exp.commands.line import one_line_errors, parser
from skip_exp.config.compose import composed
from skip_exp.config.schema import DataConfig, typed
from skip_exp.config.task import TaskConfig
from skip_exp.errors import SkipError
from skip_exp.report import frame
from skip_exp.report import grid as grids
from skip_exp.report.grid import Grid
from skip_exp.report.reconstruction import to_latex, to_markdown
from skip_exp.report.tables import save
from skip_exp.utils import hub

SWEEPS = {"paper": "table2", "offline": "table2_offline"}
REHEARSAL = "table2_embedded"  # the sweep on rows that come with the package


def plan(profile: str, overrides: Sequence[str]) -> Grid:
    """Choose the profile (``auto``) and the data by what can be reached.

    Raises:
        SkipError: the sweep file or an override does not compose.
    """
    reachable = hub.hub_reachable()
    why = "" if profile == "auto" else "chosen by --profile; "
    why += "the model hub can be reached" if reachable else "the model hub cannot be reached"
    if profile == "auto":
        profile = "paper" if reachable else "offline"
    sweep, source, where = SWEEPS[profile], "hub", "data: hub"
    if profile == "offline":
        tasks, folder = grids.swept(sweep)["task"], os.environ.get("SKIP_EXP_DATA")
        if folder and all((Path(folder) / task).is_dir() for task in tasks):
            source, where = "local", "data: local folder"
        elif not (reachable or all(is_cached(task, overrides) for task in tasks)):
            sweep, source = REHEARSAL, "embedded"
            where = "data: embedded, because SKIP_EXP_DATA is not set or lacks a task"
    return grids.read(sweep, source, overrides, f"Profile {profile}: {why}; {where}")


def is_cached(task: str, overrides: Sequence[str]) -> bool:
    """Whether the hub's cache has the task's rows."""
    from skip_exp.data.sources import load_rows  # takes seconds to import: only where asked

    cfg = composed(SWEEPS["offline"], [f"+task={task}", *overrides])
    try:
        load_rows(typed(cfg.task, TaskConfig), DataConfig(source="hub"))
    except SkipError:
        return False
    return True


def run(grid: Grid) -> bool:
    """Run the sweep in the foreground; whether it was interrupted. It skips finished jobs."""
    print(f"running: {shlex.join(grid.command)}", flush=True)
    interruptions: list[int] = []
    # Ctrl-C reaches the sweep as well. Waiting for it lets it close its job.
    before = signal.signal(signal.SIGINT, lambda number, _: interruptions.append(number))
    try:
        subprocess.run(grid.command, check=False)
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
    return _main(options)


def _main(options: Namespace) -> int:
    grid, out = plan(options.profile, options.overrides), options.out

    def answered() -> pd.DataFrame:
        more = [] if options.no_run else ["outputs"]  # where its own jobs go
        folders = [each for each in dict.fromkeys([*options.results, *more]) if Path(each).exists()]
        answers = grid.answers(frame.read(folders))
        done = len(grid.jobs) - len(grid.remaining(answers))
        print(f"{grid.name}: {done} of {len(grid.jobs)} jobs done", flush=True)
        return answers

    print(grid.about, flush=True)
    if grid.is_rehearsal:
        print("this is a rehearsal: these are not the tasks of the table", flush=True)
        out = out.with_name(f"{out.name}-rehearsal")
    answers, interrupted = answered(), False
    if old := ((answers["status"] == "done") & ~grid.is_current(answers)).sum():
        print(f"{old} results of another version of the code: their jobs are run again", flush=True)
    if len(grid.remaining(answers)) and not options.no_run:
        interrupted, answers = run(grid), answered()
    text = to_markdown(grid, answers)
    files = {out / "table2.md": text, out / "table2.tex": to_latex(grid, answers)}
    save(files)
    print(text)
    print(f"written: {', '.join(map(str, files))}")
    return 130 if interrupted else int(len(grid.remaining(answers)) > 0)
