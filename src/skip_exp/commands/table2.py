"""Run the sweep behind the paper's Table 2, and write the reconstructed table.

Examples:

    skip-exp table2 --profile offline
    skip-exp table2 --profile paper seed=1 prune.ratio=0.52     # a part of it

Jobs and table go to --output. The command is resumable: finished jobs answer from the cache, and
the table shows what is missing.
"""

import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import yaml
from omegaconf import DictConfig

from skip_exp import results
from skip_exp.commands.line import one_line_errors, parser
from skip_exp.config import schema
from skip_exp.config.compose import choices, compose_config, quote
from skip_exp.config.groups import DIGITS, TaskConfig
from skip_exp.config.together import values_of
from skip_exp.data.sources import load_rows
from skip_exp.errors import SkipError
from skip_exp.report import frame
from skip_exp.report.reconstruction import Plan, to_latex, to_markdown
from skip_exp.report.tables import write_files
from skip_exp.utils import hub

SWEEPS = {"paper": "table2", "offline": "table2_offline"}
REHEARSAL_SWEEP = "table2_embedded"  # the sweep on rows that come with the package


@one_line_errors(1)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 complete, 1 incomplete, 130 interrupted; the table is always written."""
    line = parser("table2", __doc__)
    line.add_argument(
        "--profile",
        choices=["auto", *SWEEPS],
        default="auto",
        help="backbones and data; auto: paper where the hub can be reached, else offline",
    )
    line.add_argument(
        "--results", nargs="+", default=[], metavar="FOLDER", help="further folders of results"
    )
    line.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/table2"),
        metavar="DIR",
        help="folder of the jobs and the table (default: outputs/table2)",
    )
    line.add_argument("--no-run", action="store_true", help="only write the table")
    line.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every job")
    options = line.parse_intermixed_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    planned = plan(options.profile, options.overrides)
    out = options.output
    interrupted = False
    print(f"{planned.title}. {planned.about}", flush=True)
    if not options.no_run:
        check_data(planned)
        interrupted = run_sweep(write_command(planned, out))
    # What is done so far, also of an interrupted sweep.
    folders = [folder for folder in [*options.results, out] if Path(folder).exists()]
    answers = planned.answers(frame.order_runs(frame.rows(results.load(folders))))
    done = planned.count_done(answers)
    count = len(planned.jobs)
    text = to_markdown(planned, answers)
    write_files({out / "table2.md": text, out / "table2.tex": to_latex(planned, answers)})
    print(text)
    print(f"{planned.name}: {done} of {count} jobs done")
    print(f"written: {out}/table2.md, .tex")
    return 130 if interrupted else int(done < count)


def plan(profile: str, overrides: Sequence[str]) -> Plan:
    """Choose the profile (``auto``) and the data by what can be reached.

    Raises:
        SkipError: an override does not compose.
    """
    reachable = hub.hub_reachable()
    if profile == "auto":
        profile = "paper" if reachable else "offline"
    name = SWEEPS[profile]
    source = "hub"
    if profile == "offline":
        # The paper's tasks wherever they can be read; else a rehearsal on rows that are embedded.
        tasks = swept(name, overrides)["task"]
        folder = os.environ.get("SKIP_EXP_DATA")
        if folder and all((Path(folder) / task).is_dir() for task in tasks):
            source = "local"
        elif not (reachable or all(is_cached(task, overrides, name) for task in tasks)):
            name = REHEARSAL_SWEEP
            source = "embedded"
    values = swept(name, overrides)
    settings = [*overrides, f"data.source={source}"]
    compose_unswept(name, values["task"][0], settings)  # refuses a wrong key
    return Plan(
        tasks=values["task"],
        backbones=values["backbone"],
        ratios=[round(float(ratio), DIGITS) for ratio in values["prune.ratio"]],
        seeds=[int(seed) for seed in values["seed"]],
        about=f"Profile {profile}, sweeps/{name}.yaml, {' '.join(settings)}",
        is_rehearsal=source == "embedded",
        name=name,
        overrides=settings,
    )


def swept(name: str, overrides: Sequence[str]) -> dict[str, list[str]]:
    """The values that ``sweeps/<name>.yaml`` sweeps over, or those given in their place."""
    sweep = yaml.safe_load((schema.sweep_dir() / f"{name}.yaml").read_text())
    replaced = values_of(overrides)
    values = {}
    for param, text in sweep["hydra"]["sweeper"]["params"].items():
        key = param.lstrip("+")
        values[key] = choices(replaced.get(key, text))
    return values


def compose_unswept(name: str, task: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration of a sweep's job on a task, less what is swept. Raises SkipError."""
    keys = swept(name, overrides).keys()
    settings = [f"+task={task}"]
    settings += [override for override in overrides if not keys & values_of([override]).keys()]
    return compose_config(name, settings)


def check_data(planned: Plan) -> None:
    """Refuse a sweep whose every job would fail. Raises SkipError."""
    if "data.source=hub" not in planned.overrides or hub.hub_reachable():
        return
    overrides = planned.overrides
    lacking = [task for task in planned.tasks if not is_cached(task, overrides, planned.name)]
    if lacking:
        raise SkipError(
            f"--profile paper: the model hub cannot be reached, and its cache lacks "
            f"{', '.join(lacking)}; --profile offline needs no hub"
        )


def is_cached(task: str, overrides: Sequence[str], name: str) -> bool:
    """Whether the hub's cache has the rows of a task of the sweep ``name``."""
    cfg = compose_unswept(name, task, overrides)
    try:
        load_rows(schema.to_object(cfg.task, TaskConfig), schema.DataConfig(source="hub"))
    except SkipError:
        return False
    return True


def write_command(planned: Plan, out: Path) -> list[str]:
    """The sweep as a command; each run of it has a folder of its own below ``out``."""
    folder = out / "jobs" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return [
        sys.executable, "-m", "skip_exp",
        "--config-dir", str(schema.sweep_dir()), "--config-name", planned.name,
        *planned.overrides,
        f"hydra.sweep.dir={quote(str(folder))}",
    ]  # fmt: skip


def run_sweep(command: list[str]) -> bool:
    """Run the sweep in the foreground; whether it was interrupted."""
    print(f"running: {shlex.join(command)}", flush=True)
    interruptions: list[int] = []
    # Ctrl-C reaches the sweep as well. Waiting for it lets it close its job.
    before = signal.signal(signal.SIGINT, lambda number, _: interruptions.append(number))
    try:
        subprocess.run(command, check=False)
    except KeyboardInterrupt:  # SIGTERM reaches this process alone, and this ends the sweep
        return True
    finally:
        signal.signal(signal.SIGINT, before)
    return bool(interruptions)
