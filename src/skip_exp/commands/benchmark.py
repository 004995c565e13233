"""Time finished jobs again, for instance on a quiet machine.

Example:

    skip-exp benchmark outputs/.../result.json

Each result file gets the new timing of its dense and its final model. A timing from a quiet machine
stays where the new one is contended.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from skip_exp import results
from skip_exp.commands.line import parser
from skip_exp.config.schema import BenchmarkConfig
from skip_exp.errors import SkipError
from skip_exp.results import Latency


def retime(path: Path) -> Latency:
    """Time a finished job's dense and final model again; the timing now in its result file.

    Raises:
        SkipError: no finished result there, or its skill or backbone is gone.
    """
    from skip_exp.phases.benchmark import time_models  # torch takes seconds: not for --help
    from skip_exp.utils.timing import best_device  # the same

    result = next(iter(results.load(path)), None) if path.is_file() else None
    if result is None or result.status != "done":
        raise SkipError(f"{path}: no finished result")
    settings = BenchmarkConfig(**result.config["benchmark"])
    device = "cpu" if result.config["trainer"]["accelerator"] == "cpu" else best_device()
    skill, earlier = path.parent / str(result.skill), result.latency
    timed = time_models(skill, device, job="", settings=settings, place=[]).values
    if timed["contended"] and earlier.speedup and not earlier.contended:
        print(f"{path}: keeping its timing, which was taken on a quiet machine", file=sys.stderr)
        return earlier
    result = result.replace(latency=timed)
    results.write(path.parent, result)
    return result.latency


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where a result could not be timed."""
    line = parser("benchmark", __doc__)
    line.add_argument("results", nargs="+", type=Path, help="result files or folders of results")
    options = line.parse_intermixed_args(arguments)
    failed = False
    for path in options.results:
        files = [path]
        if path.is_dir():
            done = [each for each in results.load(path) if each.status == "done"]
            # A search has times of its own, on the user's texts.
            files = [Path(str(each.path)) for each in done if each.choice.model is None]
        if not files:
            failed = True
            print(f"error: {path}: no finished {results.FILE} below it", file=sys.stderr)
        for file in files:
            try:
                latency = retime(file)
            except SkipError as error:
                failed = True
                print(f"error: {error}", file=sys.stderr)
                continue
            note = " (contended: other processes were busy)" if latency.contended else ""
            print(
                f"{file}: {latency.dense_ms:.1f} ms -> {latency.final_ms:.1f} ms, "
                f"{latency.speedup:.2f}x +- {latency.spread:.2f}{note}",
                flush=True,
            )
    return 1 if failed else 0
