"""Time finished jobs again, for instance on a quiet machine.

Example:

    skip-exp benchmark outputs/.../result.json

Each result file gets the new timing of its dense and its final model. A timing from a quiet machine
stays where the new one is contended.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from skip_exp import results
from skip_exp.commands.line import parser
from skip_exp.config.schema import BenchmarkConfig
from skip_exp.errors import SkipError
from skip_exp.job.identity import here
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.benchmark import compare
from skip_exp.pruning.surgery import zero
from skip_exp.skill.load import Skill
from skip_exp.skill.rebuild import whole_model
from skip_exp.utils.timing import best_device

log = logging.getLogger(__name__)


def retime(path: Path) -> dict[str, Any]:
    """Time a finished job's dense and final model again, and write that to its result file.

    Raises:
        SkipError: no finished result there, or its skill or backbone is gone.
    """
    result, skill, dense, settings = finished(path)
    before, latency = result["latency"], compare(dense, skill.model, settings, best_device())
    if latency["contended"] and before and not before.get("contended"):
        log.warning("%s: keeping its timing, which was taken on a quiet machine", path)
        return latency
    place = here(result["config"].get("trainer", {}).get("accelerator", "auto"))
    timed = {"latency": latency | {"place": place}, "retimed": True}
    results.write(path.parent, result | timed)
    return latency


def control(path: Path) -> dict[str, Any]:
    """Time a job's dense model against itself with the removed neurons zeroed.

    Nothing is removed, so the speed-up must be 1. Raises SkipError as `retime` does.
    """
    _, skill, dense, settings = finished(path)
    return compare(dense, zero(dense, skill.keep), settings, best_device())


def finished(path: Path) -> tuple[Any, Any, SoftPromptModel, BenchmarkConfig]:
    """Result, skill, dense model and settings of the job whose ``result.json`` is ``path``.

    The dense model's weights do not matter to its speed: it is rebuilt, not loaded.
    """
    loaded = results.load(path) if path.is_file() else []
    if not loaded or loaded[0]["status"] != "done":
        raise SkipError(f"{path}: no finished result")
    skill = Skill.load(path.parent / loaded[0]["skill"])
    found = loaded[0]["config"]["benchmark"]  # earlier results also have keys that are gone
    settings = {field.name: found[field.name] for field in fields(BenchmarkConfig)}
    dense = whole_model(skill.about, skill.tokenizer)
    return loaded[0], skill, dense, BenchmarkConfig(**settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where a result could not be timed."""
    line = parser("benchmark", __doc__)
    line.add_argument("results", nargs="+", type=Path, help="result files or folders of results")
    about = "time the dense model against itself with the removed neurons zeroed; writes nothing"
    line.add_argument("--control", action="store_true", help=about)
    options, failed = line.parse_args(arguments), False
    measure = control if options.control else retime
    for path in options.results:
        for file in sorted(path.rglob(results.FILE)) if path.is_dir() else [path]:
            try:
                latency = measure(file)
            except SkipError as error:
                failed = True
                print(f"error: {error}", file=sys.stderr)
                continue
            note = " (contended: other processes were busy)" if latency["contended"] else ""
            print(
                f"{file}: {latency['dense_ms']:.1f} ms -> {latency['final_ms']:.1f} ms, "
                f"{latency['speedup']:.2f}x +- {latency['spread']:.2f}{note}",
                flush=True,
            )
    return 1 if failed else 0
