"""Predict the time of a pruned model from measured sublayers, and search the ratio for a speed-up.

A sublayer's time does not fall in proportion to its parameters, so it is measured on this device
at several widths (as in HALP, Shen et al. 2022, and ZipLM, Kurtic et al. 2023).
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from skip_exp.errors import ConfigError
from skip_exp.models.sites import Keep, Shape, Site, Sublayer
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.surgery import cut
from skip_exp.utils import bars
from skip_exp.utils.timing import interleave

# Between the widths that are measured time is interpolated.
POINTS = {"ffn": 6, "heads": 8, "qk": 4, "vo": 4}
REPEATS, WARMUP = 5, 1


@dataclass(frozen=True)
class Timing:
    """Seconds of one sublayer at several widths of one of its sites, both ascending."""

    widths: list[int]
    seconds: list[float]

    def at(self, width: int) -> float:
        """Seconds at any width, interpolated."""
        return float(np.interp(width, self.widths, self.seconds))


@dataclass(frozen=True)
class Table:
    """Time of a forward pass by sublayer."""

    total: float  # seconds of the dense model
    sites: Mapping[str, Timing]  # those of one sublayer all end with the whole sublayer's time

    @property
    def rest(self) -> float:
        """Seconds that no cut saves: embeddings, norms, readout."""
        return max(0.0, self.total - self._blocks({}))

    def speedup(self, widths: Mapping[str, int]) -> float:
        """Predict the speed-up of a model with these widths; sites that are absent are whole."""
        return self.total / (self.rest + self._blocks(widths))

    def _blocks(self, widths: Mapping[str, int]) -> float:
        by_sublayer: dict[Sublayer, list[Site]] = {}
        for site in map(Site, self.sites):
            by_sublayer.setdefault(site.sublayer, []).append(site)
        return sum(self._seconds(sites, widths) for sites in by_sublayer.values())

    def _seconds(self, sites: list[Site], widths: Mapping[str, int]) -> float:
        """Seconds of one sublayer: savings of both kinds of dims add up, heads multiply."""
        whole = left = self.sites[sites[0]].seconds[-1]
        if not whole:
            return 0.0
        saved = 0.0
        for site in sites:
            timing = self.sites[site]
            seconds = timing.at(widths.get(site, timing.widths[-1]))
            if site.kind in ("qk", "vo"):
                saved += whole - seconds
            else:
                left = seconds
        return left * max(0.0, 1 - saved / whole)


def widths(keep: Keep) -> dict[str, int]:
    """Count the kept neurons of each site; for dims, per head."""
    return {site: kept.shape[-1] for site, kept in keep.items()}


def search(table: Table, target_speedup: float, most: float, pick: Callable[[float], Keep]) -> Keep:
    """Find the keep of the smallest ratio with a predicted speed-up of ``target_speedup``.

    Args:
        most: the largest ratio that ``pick`` can reach.
        pick: ratio -> keep, monotone.

    Raises:
        ConfigError: ``target_speedup`` is out of reach.
    """
    fastest = table.speedup(widths(pick(most)))
    if not 1 <= target_speedup <= fastest:
        reach = f"must be between 1 and {int(fastest * 100) / 100}"
        raise ConfigError("prune.target_speedup", target_speedup, reach)
    low, high = 0.0, most
    for _ in range(12):  # to 1/4096: finer than the rounding of widths
        middle = (low + high) / 2
        is_fast_enough = table.speedup(widths(pick(middle))) >= target_speedup
        low, high = (low, middle) if is_fast_enough else (middle, high)
    return pick(high)


@torch.inference_mode()
def measure(model: SoftPromptModel, inputs: Mapping[str, Tensor]) -> Table:
    """Time ``model`` and its sublayers at several widths of each of their sites.

    A sublayer's time is the time of a pass minus that of a pass without it. So it is measured in
    its place: on a decoder's one or two tokens, say, and without weights in the processor's cache
    from an earlier call. Sublayers of one shape, stack and part are timed together, without the
    others.

    Args:
        model: the dense model in eval mode, on its device.
        inputs: a full batch, see :func:`skip_exp.models.cost.random_batch`.

    The caller holds the machine's benchmark lock. Costs some 200 passes of the dense model.
    """
    alike: dict[object, list[Shape]] = {}
    for shape in model.shapes():
        sizes = (value for key, value in vars(shape).items() if key != "name")
        alike.setdefault((shape.name.stack, shape.name.part, *sizes), []).append(shape)
    total, rest = _passes(model, inputs, [{}, nothing(model.shapes())])
    counted = bars.bar(len(alike), "timing sublayers", alike.values())
    timed = [(shapes, _curves(model, inputs, shapes)) for shapes in counted]
    # What they take one by one adds up to somewhat more or less than what they take together.
    together = sum(curves[shapes[0].whole].seconds[-1] for shapes, curves in timed)
    scale = max(0.0, total - rest) / (together or 1.0)
    sites: dict[str, Timing] = {}
    for shapes, curves in timed:
        for shape in shapes:
            for kind, curve in curves.items():
                seconds = [scale * x / len(shapes) for x in curve.seconds]
                sites[shape.name.site(kind)] = Timing(curve.widths, seconds)
    return Table(total, sites)


def nothing(shapes: list[Shape]) -> Keep:
    """The keep that removes these sublayers."""
    return {shape.name.site(shape.whole): torch.arange(0) for shape in shapes}


def _curves(
    model: SoftPromptModel, inputs: Mapping[str, Tensor], shapes: list[Shape]
) -> dict[str, Timing]:
    """Seconds of these sublayers by kind, at several widths of it, other kinds being whole."""
    others = nothing([shape for shape in model.shapes() if shape not in shapes])
    curves = {}
    for site, size in shapes[0].sites().items():
        points = _points(site.kind, size[-1])
        keeps = [nothing(model.shapes())]
        for width in points:
            kept = torch.arange(width).expand(*size[:-1], width)
            keeps.append(others | {shape.name.site(site.kind): kept for shape in shapes})
        rest, *seconds = _passes(model, inputs, keeps)
        # A wider one is never faster.
        rising = np.maximum.accumulate([max(0.0, x - rest) for x in seconds])
        curves[site.kind] = Timing(points, rising.tolist())
    # The whole sublayers were timed once for each kind: all curves end with the median.
    whole = statistics.median(curve.seconds[-1] for curve in curves.values())
    return {
        kind: Timing(curve.widths, [*(min(x, whole) for x in curve.seconds[:-1]), whole])
        for kind, curve in curves.items()
    }


def _points(kind: str, width: int) -> list[int]:
    """Widths to measure; 1 for dims, too: without any, attention computes no weights."""
    step = -(-width // POINTS[kind])
    step = step if kind == "heads" else -(-step // 8) * 8
    one = {min(1, width)} if kind in ("qk", "vo") else set()
    return sorted({*range(0, width, step), *one, width})


def _passes(model: SoftPromptModel, inputs: Mapping[str, Tensor], keeps: list[Keep]) -> list[float]:
    """Median seconds of a pass of ``model`` cut to each of ``keeps``."""
    models = [cut(model, keep) for keep in keeps]
    calls, device = [partial(smaller, **inputs) for smaller in models], inputs["input_ids"].device
    times = interleave(calls, repeats=REPEATS, warmup=WARMUP, device=device)
    return [statistics.median(times_of_call) for times_of_call in times]
