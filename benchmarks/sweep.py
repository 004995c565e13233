"""A sweep of three ratios against one job: whole commands from cold, as a user types them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.models import data_folder, task_name
from benchmarks.tables import Options, Reach, Row
from benchmarks.timing import clock, job
from skip_exp import results
from skip_exp.errors import SkipError
from skip_exp.utils.timing import alone

TITLE = "Sweep of three ratios against one job"
ABOUT = (
    "Wall time of `python -m skip_exp +task=rte prune.ratio=0.3,0.5,0.7 -m` (ours) and of "
    "`python -m skip_exp +task=rte prune.ratio=0.5` (theirs) in new processes, each with an empty "
    "cache, all settings at their defaults; of RTE's train rows the first 240, so that it takes "
    "minutes. Ratio: sweep over job. Outside the phases: what the command took beyond the phases "
    "that its result files name: start of Python and its libraries, data, backbone, once; "
    "composition, Lightning, W&B, files, for each job."
)
TASK, ROWS, ONE, RATIOS = "rte", 240, "prune.ratio=0.5", "prune.ratio=0.3,0.5,0.7"
QUICK = [
    *("tune.epochs=1", "retune.epochs=1", "attribution.samples=32", "data.max_length=64"),
    *("tune.min_steps=0", "retune.min_steps=0", "retune.budget=0"),
    *("benchmark.batch=2", "benchmark.seq_len=16", "benchmark.repeats=2", "logger=none"),
]


@dataclass(frozen=True)
class Command:
    """What one command took, and what its result files say of it."""

    wall: float  # seconds
    phases: float  # seconds of all phases of all jobs
    jobs: int
    contended: bool

    @property
    def outside(self) -> float:
        """Seconds outside the phases: the start of Python and its libraries, data, files, ..."""
        return self.wall - self.phases


def measure(options: Options) -> list[Row]:
    """The ratio of both commands and the overhead of each."""
    source = None if options.quick else data_folder()
    overrides = [f"+task={TASK}", *(QUICK if options.quick else [])]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = first_rows(Path(source), root / "data") if source else None
        one = run([*overrides, ONE], root / "one", rows)
        many = run([*overrides, RATIOS, "-m"], root / "many", rows)
    return compared(one, many, f"{TASK}, {ROWS} rows" if source else task_name(TASK, True))


def compared(one: Command, many: Command, setting: str) -> list[Row]:
    """Ours is the sweep. A job's overhead beyond the first is what the start is no part of."""
    contended = one.contended or many.contended
    further = (many.outside - one.outside) / (many.jobs - one.jobs)
    ratio, bound = many.wall / one.wall, Reach(high=1.8)
    row = partial(Row, setting=setting, unit="s", contended=contended)
    per_job, of_further, of_one = (Reach(high=seconds, of="ours") for seconds in (3.0, 2.0, 4.0))
    return [
        row("sweep of three ratios", ours=many.wall, theirs=one.wall, ratio=ratio, reach=bound),
        row("sweep, outside the phases, per job", ours=many.outside / many.jobs, reach=per_job),
        row("each further job, outside its phases", ours=further, reach=of_further),
        row("one job, outside its phases", ours=one.outside, reach=of_one),
    ]


def first_rows(source: Path, folder: Path) -> Path:
    """A data folder with the first ROWS train rows of the task and its whole validation split.

    Raises:
        SkipError: ``source`` has no ``.jsonl`` of a split.
    """
    (folder / TASK).mkdir(parents=True)
    for split, rows in (("train", ROWS), ("validation", None)):
        file = source / TASK / f"{split}.jsonl"
        if not file.is_file():
            raise SkipError(f"SKIP_EXP_DATA: needs {file}")
        lines = file.read_text().splitlines(keepends=True)
        (folder / TASK / file.name).write_text("".join(lines[:rows]))
    return folder


def run(overrides: Sequence[str], cold: Path, data: Path | None) -> Command:
    """Run a whole command in the new folder ``cold``, where its cache and results go.

    Raises:
        SkipError: it failed.
    """
    cold.mkdir()
    environment = {"SKIP_EXP_DATA": str(data)} if data else {}
    arguments = [*overrides, *([] if data else ["data.source=embedded", f"data.train_rows={ROWS}"])]
    # No lock: the command's benchmark phase takes it.
    wall, contended = alone(lambda: clock(lambda: job(arguments, cold, **environment)), lock=False)
    jobs = results.load(cold / "outputs")
    return Command(wall, sum(map(phases, jobs)), len(jobs), contended)


def phases(result: results.Result) -> float:
    """Seconds of all phases of one job."""
    return float(sum(value for name, value in result.seconds.items() if name != "total"))
