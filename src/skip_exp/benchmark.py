"""How much faster the smaller model is: both models in one process, same batches, in turn.

``python -m skip_exp.benchmark RESULT ...`` times finished jobs again, on a quiet machine.
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from filelock import FileLock
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from skip_exp import results
from skip_exp.errors import SkipError
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.surgery import zero

log = logging.getLogger(__name__)
T = TypeVar("T")

LOCK = Path(tempfile.gettempdir()) / "skip_exp-benchmark.lock"
BUSY = 0.25  # cores that other processes may use before a measurement counts as contended


@dataclass(frozen=True)
class BenchmarkSettings:
    """Plain twin of ``config.BenchmarkConfig``."""

    enabled: bool
    batch: int
    seq_len: int
    repeats: int
    warmup: int


def random_batch(model: SoftPromptModel, batch: int, seq_len: int) -> dict[str, Tensor]:
    """A full batch [batch, seq_len] of random tokens, nothing padded, on the model's device."""
    device = next(model.parameters()).device
    vocabulary = model.backbone.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (batch, seq_len), generator=generator).to(device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def flops(model: SoftPromptModel, seq_len: int) -> int:
    """Floating-point operations of one text of ``seq_len`` tokens, attention included."""
    eager = model.copy().eval()
    eager.set_attention("eager")  # the fused attention kernel of the CPU is not counted
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        eager(**random_batch(eager, 1, seq_len))
    return counter.get_total_flops()


def compare(
    dense: SoftPromptModel, final: SoftPromptModel, settings: BenchmarkSettings, device: str
) -> dict[str, Any]:
    """Forward passes of both models in turn, in fp32, under a lock of the whole machine.

    Returns:
        The ``latency`` fields of a result: milliseconds per batch (medians), ``speedup`` (median of
        the ratios, pair by pair), ``spread`` (half the interquartile range of these ratios),
        ``contended`` (other processes used the machine meanwhile).
    """
    models = [model.to(device).eval() for model in (dense, final)]
    inputs = random_batch(models[0], settings.batch, settings.seq_len)
    times, contended = alone(
        lambda: interleave(
            [partial(model, **inputs) for model in models],
            repeats=settings.repeats,
            warmup=settings.warmup,
            synchronise=torch.cuda.synchronize if device.startswith("cuda") else None,
        )
    )
    ratios = [a / b for a, b in zip(*times, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (0.0, 0.0, 0.0)
    return {
        "batch": settings.batch,
        "seq_len": settings.seq_len,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "dense_ms": statistics.median(times[0]) * 1e3,
        "final_ms": statistics.median(times[1]) * 1e3,
        "speedup": statistics.median(ratios),
        "spread": (high - low) / 2,
        "contended": contended,
    }


def alone(measure: Callable[[], T], *, inference: bool = True, lock: bool = True) -> tuple[T, bool]:
    """``measure()`` under a lock of the whole machine; whether other processes were busy.

    Args:
        inference: without gradients.
        lock: False where ``measure`` starts commands that take the lock themselves.
    """
    own = FileLock(LOCK, mode=0o666) if lock else nullcontext()  # the lock of every user
    with own, torch.inference_mode(inference):
        load = _Load()
        found = measure()
        others = load.others()
    if others > BUSY:
        log.warning("benchmark: other processes used %.1f cores; marked as contended", others)
    return found, others > BUSY


def interleave(
    calls: list[Callable[[], object]],
    *,
    repeats: int,
    warmup: int,
    synchronise: Callable[[], None] | None = None,
) -> list[list[float]]:
    """Seconds of each call, [calls][repeats]: A B A B ..., so that drift hits all alike."""
    times: list[list[float]] = [[] for _ in calls]
    for round_ in range(warmup + repeats):
        for call, own in zip(calls, times, strict=True):
            if synchronise:
                synchronise()
            start = time.perf_counter()
            call()
            if synchronise:
                synchronise()
            if round_ >= warmup:
                own.append(time.perf_counter() - start)
    return times


class _Load:
    """How many cores the processes beside this one kept busy since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.busy, self.own = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        everything = psutil.cpu_times()
        idle = everything.idle + getattr(everything, "iowait", 0.0)
        total = sum(everything) - getattr(everything, "guest", 0.0)
        return total - idle, sum(os.times()[:4])  # with the commands that this process waited for

    def others(self) -> float:
        busy, own = self._now()
        wall = time.perf_counter() - self.start
        return max(0.0, (busy - self.busy) - (own - self.own)) / wall


def retime(path: Path) -> dict[str, Any]:
    """Time a finished job's dense and final model again and put the figures into its result file.

    Figures of a quiet machine that are there already stay where the new ones are contended.

    Raises:
        SkipError: no finished result there, or its skill or backbone is gone.
    """
    result, skill, dense = _finished(path)
    settings = BenchmarkSettings(**result["config"]["benchmark"])
    before, latency = result["latency"], compare(dense, skill.model, settings, best_device())
    if latency["contended"] and before and not before.get("contended"):
        log.warning("%s: keeps the timing it has, taken on a quiet machine", path)
        return latency
    result["latency"] = latency
    results.write(path.parent, result)
    return latency


def control(path: Path) -> dict[str, Any]:
    """Latency fields of a job's dense model against itself with the removed neurons zeroed.

    Nothing is cut, so the ratio must be 1: what is gained by cutting is not gained by masking.
    Raises as :func:`retime`.
    """
    result, skill, dense = _finished(path)
    settings = BenchmarkSettings(**result["config"]["benchmark"])
    return compare(dense, zero(dense, skill.keep), settings, best_device())


def _finished(path: Path) -> tuple[Any, Any, SoftPromptModel]:
    """Result, skill and dense model of the job whose ``result.json`` is ``path``.

    The dense model's weights do not matter to its speed: it is rebuilt, not loaded.
    """
    from skip_exp.skill.skill import Skill, whole_model

    found = results.load(path) if path.is_file() else []
    if not found or found[0]["status"] != "done":
        raise SkipError(f"{path}: no finished result")
    skill = Skill.load(path.parent / found[0]["skill"])
    return found[0], skill, whole_model(skill.about, skill.tokenizer)


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def main(arguments: list[str] | None = None) -> int:
    """The command line; exit code 1 if a result could not be timed."""
    parser = argparse.ArgumentParser(prog="python -m skip_exp.benchmark", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="result files or folders of results")
    parser.add_argument(
        "--control",
        action="store_true",
        help="time the dense model against itself with the removed neurons zeroed; writes nothing",
    )
    given, failed = parser.parse_args(arguments), False
    measure = control if given.control else retime
    for path in given.results:
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


if __name__ == "__main__":
    sys.exit(main())
