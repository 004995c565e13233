"""``skip-exp benchmark RESULT ...`` times finished jobs again, on a quiet machine."""

import argparse
import logging
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from skip_exp import results
from skip_exp.config.schema import BenchmarkConfig
from skip_exp.errors import SkipError
from skip_exp.job.timing import compare
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.surgery import zero
from skip_exp.skill.load import Skill
from skip_exp.skill.rebuild import whole_model
from skip_exp.utils.timing import best_device

log = logging.getLogger(__name__)


def retime(path: Path) -> dict[str, Any]:
    """Time a finished job's dense and final model again and put the figures into its result file.

    Figures of a quiet machine that are there already stay where the new ones are contended.

    Raises:
        SkipError: no finished result there, or its skill or backbone is gone.
    """
    result, skill, dense = _finished(path)
    settings = _settings(result)
    before, latency = result["latency"], compare(dense, skill.model, settings, best_device())
    if latency["contended"] and before and not before.get("contended"):
        log.warning("%s: keeps the timing it has, taken on a quiet machine", path)
        return latency
    result |= {"latency": latency, "retimed": True}
    results.write(path.parent, result)
    return latency


def control(path: Path) -> dict[str, Any]:
    """Latency fields of a job's dense model against itself with the removed neurons zeroed.

    Nothing is cut, so the ratio must be 1: what is gained by cutting is not gained by masking.
    Raises as :func:`retime`.
    """
    result, skill, dense = _finished(path)
    settings = _settings(result)
    return compare(dense, zero(dense, skill.keep), settings, best_device())


def _settings(result: Mapping[str, Any]) -> BenchmarkConfig:
    """The job's settings; earlier results also have keys that are constants now."""
    names = {field.name for field in fields(BenchmarkConfig)}
    found = result["config"]["benchmark"]
    return BenchmarkConfig(**{name: value for name, value in found.items() if name in names})


def _finished(path: Path) -> tuple[Any, Any, SoftPromptModel]:
    """Result, skill and dense model of the job whose ``result.json`` is ``path``.

    The dense model's weights do not matter to its speed: it is rebuilt, not loaded.
    """
    loaded = results.load(path) if path.is_file() else []
    if not loaded or loaded[0]["status"] != "done":
        raise SkipError(f"{path}: no finished result")
    skill = Skill.load(path.parent / loaded[0]["skill"])
    return loaded[0], skill, whole_model(skill.about, skill.tokenizer)


def main(arguments: list[str] | None = None) -> int:
    """The command line; exit code 1 if a result could not be timed."""
    parser = argparse.ArgumentParser(prog="skip-exp benchmark", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="result files or folders of results")
    parser.add_argument(
        "--control",
        action="store_true",
        help="time the dense model against itself with the removed neurons zeroed; writes nothing",
    )
    options, failed = parser.parse_args(arguments), False
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
