"""A sweep of three ratios against one job: whole commands from cold, as a user types them."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skip_exp import results
from skip_exp.bench import data
from skip_exp.bench.row import Options, Reach, Row
from skip_exp.errors import SkipError
from skip_exp.machine.timing import alone

TITLE = "Sweep of three ratios against one job"
ABOUT = (
    "Wall time of `python -m skip_exp +task=rte prune.ratio=0.3,0.5,0.7 -m` (ours) and of "
    "`python -m skip_exp +task=rte prune.ratio=0.5` (theirs) in new processes, each with an empty "
    "cache, all settings at their defaults; of RTE's train rows the first 240, so that it takes "
    "minutes. Ratio: sweep over job. Outside the phases: what the command took beyond the phases "
    "that its result files name: start of Python and its libraries, data, backbone, once; "
    "composition, Lightning, W&B, files, for each job."
)
TASK, ROWS, RATIOS = "rte", 240, (0.3, 0.5, 0.7)
QUICK = [
    *("tune.epochs=1", "retune.epochs=1", "attribution.samples=32", "data.max_length=64"),
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
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        real = real_rows(where / "data") if data.is_real() and not options.quick else None
        given = QUICK if options.quick else []
        one = run([f"+task={TASK}", "prune.ratio=0.5", *given], where / "one", real)
        ratios = ",".join(map(str, RATIOS))
        many = run([f"+task={TASK}", f"prune.ratio={ratios}", *given, "-m"], where / "many", real)
    setting = f"{TASK}, {ROWS} rows" if real else data.named(TASK, True)
    contended, each = one.contended or many.contended, many.outside / many.jobs
    return [
        Row(
            "sweep of three ratios", setting, many.wall, one.wall, "s", many.wall / one.wall,
            reach=Reach(high=1.8), contended=contended,
        ),
        _overhead("sweep, outside the phases, per job", setting, each, contended),
        _overhead("each further job, outside its phases", setting, further(one, many), contended),
        Row("one job, outside its phases", setting, one.outside, unit="s", contended=contended),
    ]  # fmt: skip


def further(one: Command, many: Command) -> float:
    """Seconds that each job after a process's first takes beyond its phases."""
    return (many.outside - one.outside) / (many.jobs - one.jobs)


def _overhead(name: str, setting: str, seconds: float, contended: bool) -> Row:
    reach = Reach(high=3.0, of="ours")
    return Row(name, setting, seconds, unit="s", reach=reach, contended=contended)


def real_rows(folder: Path) -> Path:
    """A data folder with the first ROWS train rows of the task and its whole validation split."""
    source = Path(os.environ["SKIP_EXP_DATA"]) / TASK
    (folder / TASK).mkdir(parents=True)
    for split in ("train", "validation"):
        files = sorted(source.glob(f"{split}.*"))
        if not files or files[0].suffix != ".jsonl":
            raise SkipError(f"SKIP_EXP_DATA: needs {source}/{split}.jsonl")
        lines = files[0].read_text().splitlines(keepends=True)
        kept = lines[:ROWS] if split == "train" else lines
        (folder / TASK / files[0].name).write_text("".join(kept))
    return folder


def run(overrides: Sequence[str], cold: Path, real: Path | None) -> Command:
    """Run a whole command in the new folder ``cold``, where its cache and results go.

    Raises:
        SkipError: it failed.
    """
    cold.mkdir()
    source = [] if real else ["data.source=sample"]
    argv = [sys.executable, "-m", "skip_exp", *overrides, *source]
    environment = os.environ | ({"SKIP_EXP_DATA": str(real)} if real else {})

    def whole() -> tuple[int, float]:
        start = time.perf_counter()
        ended = subprocess.run(argv, cwd=cold, env=environment, capture_output=True, text=True)
        if ended.returncode:
            print(ended.stdout, ended.stderr, file=sys.stderr)
        return ended.returncode, time.perf_counter() - start

    (code, wall), contended = alone(whole, lock=False)  # its benchmark phase takes the lock
    if code:
        raise SkipError(f"{' '.join(overrides)}: exit code {code}")
    found = results.load(cold / "outputs")
    return Command(wall, sum(map(phases, found)), len(found), contended)


def phases(result: dict[str, Any]) -> float:
    """Seconds of all phases of one job."""
    return sum(value for name, value in result["seconds"].items() if name != "total")
