"""How long every sublayer takes on this device, at several widths of each of its sites."""

import statistics
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from skip_exp.models.sites import Keep, Shape
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.latency import Table, Timing
from skip_exp.pruning.surgery import cut
from skip_exp.utils.timing import interleave

# Between the widths that are measured time is interpolated.
POINTS = {"ffn": 6, "heads": 8, "qk": 4, "vo": 4}
REPEATS, WARMUP = 5, 1


@torch.inference_mode()
def measure(model: SoftPromptModel, inputs: Mapping[str, Tensor]) -> Table:
    """Time ``model``, and its sublayers at several widths of each of their sites.

    Sublayers are timed in their place, as what a pass takes longer than one of a model without any
    of them: on a decoder's one or two tokens, say, and with no weights left in the processor's
    cache from a call before. Those of one shape, stack and part are timed together, the others
    being gone.

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
    timed = [(shapes, _curves(model, inputs, shapes)) for shapes in alike.values()]
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
    """The keep of a model without these sublayers."""
    return {shape.name.site(shape.whole): torch.arange(0) for shape in shapes}


def _curves(
    model: SoftPromptModel, inputs: Mapping[str, Tensor], shapes: list[Shape]
) -> dict[str, Timing]:
    """By kind, seconds of all these sublayers at several widths of it, their others being whole."""
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
    """Widths to measure; of dims 1, too: without any, attention does not compute its weights."""
    step = -(-width // POINTS[kind])
    step = step if kind == "heads" else -(-step // 8) * 8
    one = {min(1, width)} if kind in ("qk", "vo") else set()
    return sorted({*range(0, width, step), *one, width})


def _passes(model: SoftPromptModel, inputs: Mapping[str, Tensor], keeps: list[Keep]) -> list[float]:
    """Median seconds of a pass of ``model`` cut to each of ``keeps``."""
    models = [cut(model, keep) for keep in keeps]
    return _median([partial(smaller, **inputs) for smaller in models], inputs["input_ids"].device)


def _median(calls: list[Callable[[], object]], device: torch.device) -> list[float]:
    wait = torch.cuda.synchronize if device.type == "cuda" else None
    times = interleave(calls, repeats=REPEATS, warmup=WARMUP, synchronise=wait)
    return [statistics.median(times_of_call) for times_of_call in times]
