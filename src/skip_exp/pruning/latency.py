"""Choosing by measured time: a speed-up asked for -> the keep that loses the least relevance.

A sublayer's time does not fall in proportion to its parameters, so it is measured on this device
for several widths (as in HALP, Shen et al. 2022, and ZipLM, Kurtic et al. 2023), and dynamic
programming picks one width per sublayer.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from skip_exp.errors import ConfigError
from skip_exp.machine.timing import interleave
from skip_exp.models.families import AttentionBlock, Block
from skip_exp.models.sites import Keep, Relevance, Shape, Site
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.allocate import top
from skip_exp.pruning.surgery import cut

POINTS = 12  # widths of an FFN that are measured, beside 0; between them time is interpolated
BINS = 4000  # of the time budget; each block's time is rounded up to whole ones
REPEATS, WARMUP = 7, 2


@dataclass(frozen=True)
class Timing:
    """Seconds of one sublayer at some of its widths (heads, or FFN units), both ascending."""

    widths: list[int]
    seconds: list[float]

    def at(self, width: int) -> float:
        return float(np.interp(width, self.widths, self.seconds))


@dataclass(frozen=True)
class Table:
    """Where a forward pass spends its time."""

    total: float  # seconds of the dense model
    blocks: Mapping[str, Timing]

    @property
    def rest(self) -> float:
        """What no cut makes faster: embeddings, norms, readout."""
        return max(0.0, self.total - sum(t.seconds[-1] for t in self.blocks.values()))

    def speedup(self, widths: Mapping[str, int]) -> float:
        """Of a model with these widths; a block that is not named is whole."""
        blocks = (t.at(widths.get(name, t.widths[-1])) for name, t in self.blocks.items())
        return self.total / (self.rest + sum(blocks))


def widths(keep: Keep) -> dict[str, int]:
    """Width of every sublayer that ``keep`` cuts in units or heads."""
    sites = ((Site(name), kept) for name, kept in keep.items())
    return {site.sublayer: len(kept) for site, kept in sites if site.kind in ("ffn", "heads")}


def choose(
    relevance: Relevance,
    sizes: list[Shape],
    table: Table,
    *,
    target_speedup: float,
    sites: list[str],
    round_to: int = 8,
) -> Keep:
    """The keep of ``ffn`` units and ``heads`` that is predicted to reach ``target_speedup``.

    What counts is the fraction of a family's relevance that goes, added up over the families: in
    one sum the heads, with a tenth of the relevance and two fifths of the time, would go first.

    Raises:
        ConfigError: beyond what ``sites`` can reach; sites other than ffn and heads.
    """
    if not sites or set(sites) - {"ffn", "heads"}:
        raise ConfigError("prune.sites", sites, "must be ffn, heads or both where time is the goal")
    options = {shape.name: _options(shape, sites, round_to) for shape in sizes}
    fastest = table.speedup({name: option_widths[0] for name, option_widths in options.items()})
    if not 1 <= target_speedup <= fastest:
        most = f"must be between 1 and {int(fastest * 100) / 100} with prune.sites={sites}"
        raise ConfigError("prune.target_speedup", target_speedup, most)
    parts = shares({_whole(shape): relevance[_whole(shape)] for shape in sizes})
    scores = {shape.name: parts[_whole(shape)].sort().values for shape in sizes}
    lost, seconds = [], []
    for name, option_widths in options.items():
        lost.append([float(scores[name][: len(scores[name]) - k].sum()) for k in option_widths])
        seconds.append([table.blocks[name].at(k) for k in option_widths])
    picked = _knapsack(lost, seconds, table.total / target_speedup - table.rest)
    return {
        _whole(shape): top(relevance[_whole(shape)], shape.units - options[shape.name][i])
        for shape, i in zip(sizes, picked, strict=True)
    }


def shares(relevance: Relevance) -> dict[str, Tensor]:
    """Every neuron's relevance as a fraction of its family's (of the absolute values' sum)."""
    totals: dict[str, float] = {}
    for site, scores in relevance.items():
        like = Site(site).like
        totals[like] = totals.get(like, 0.0) + float(scores.double().abs().sum())
    return {
        site: scores.double() / (totals[Site(site).like] or 1.0)
        for site, scores in relevance.items()
    }


def search(table: Table, target_speedup: float, most: float, pick: Callable[[float], Keep]) -> Keep:
    """The keep of the smallest ratio whose predicted speed-up is ``target_speedup``.

    Args:
        most: the largest ratio that ``pick`` can reach.
        pick: ratio -> keep, monotone.

    Raises:
        ConfigError: a target out of reach.
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


def _knapsack(lost: list[list[float]], seconds: list[list[float]], max_seconds: float) -> list[int]:
    """One option per row with the least total loss within ``max_seconds``."""
    room = BINS + len(lost)  # rounding up must not make the tightest limit impossible
    best = np.zeros(room + 1)  # least loss within so many bins
    option_taken = np.zeros((len(lost), room + 1), dtype=int)
    bins = [
        np.ceil(np.asarray(row) / max(max_seconds, 1e-12) * BINS).astype(int) for row in seconds
    ]
    for row, (losses, costs) in enumerate(zip(lost, bins, strict=True)):
        loss_by_option = np.full((len(losses), room + 1), np.inf)
        for i, (loss, cost) in enumerate(zip(losses, costs, strict=True)):
            if cost <= room:
                loss_by_option[i, cost:] = best[: room + 1 - cost] + loss
        option_taken[row], best = loss_by_option.argmin(0), loss_by_option.min(0)
    picked: list[int] = []
    bins_left = room
    for row in reversed(range(len(lost))):
        picked.append(int(option_taken[row, bins_left]))
        bins_left -= int(bins[row][picked[-1]])
    return picked[::-1]


def _options(shape: Shape, sites: list[str], round_to: int) -> list[int]:
    """Widths to choose from, ascending, the whole one included."""
    if shape.whole not in sites:
        return [shape.units]
    step = 1 if shape.whole == "heads" else round_to
    return [*range(0, shape.units, step), shape.units]


def _whole(shape: Shape) -> Site:
    return shape.name.site(shape.whole)


@torch.inference_mode()
def measure(model: SoftPromptModel, inputs: Mapping[str, Tensor]) -> Table:
    """Time ``model`` and, where they differ in shape, its sublayers at several widths.

    Args:
        model: the dense model in eval mode, on its device.
        inputs: a full batch, see :func:`skip_exp.models.cost.random_batch`.

    The caller holds the machine's benchmark lock. Costs some hundred sublayer passes.
    """
    gone: Keep = {_whole(shape): torch.arange(0) for shape in model.shapes()}
    whole_pass, rest_pass = (partial(m, **inputs) for m in (model, cut(model, gone)))
    total, rest = _median([whole_pass, rest_pass], model)
    model.prompt.install(model.attention_blocks())
    batch, length = inputs["input_ids"].shape
    timings_by_shape: dict[tuple[object, ...], Timing] = {}
    timings: dict[str, Timing] = {}
    for block, shape in zip(model.blocks(), model.shapes(), strict=True):
        kind = block.name.part, *(v for k, v in vars(shape).items() if k != "name")
        if kind not in timings_by_shape:
            timings_by_shape[kind] = _time_block(model, block, shape, batch, length)
        timings[block.name] = timings_by_shape[kind]
    # By itself, its weights in the cache, a sublayer is faster than in its place: only the shape of
    # the curves is taken from there.
    scale = max(0.0, total - rest) / sum(timing.seconds[-1] for timing in timings.values())
    scaled: dict[str, Timing] = {
        n: Timing(t.widths, [scale * x for x in t.seconds]) for n, t in timings.items()
    }
    return Table(total, scaled)


def _time_block(
    model: SoftPromptModel, block: Block, shape: Shape, batch: int, length: int
) -> Timing:
    step = 1 if shape.whole == "heads" else -(-shape.units // (POINTS * 8)) * 8
    points = sorted({*range(0, shape.units, step), shape.units})
    size, device = block.output.out_features, block.output.weight.device
    hidden = torch.randn(batch, length, size, device=device)
    calls: list[Callable[[], object]] = []
    for width in points:
        smaller = cut(model, {_whole(shape): torch.arange(width)})
        smaller.prompt.install(smaller.attention_blocks())
        smaller_block = next(b for b in smaller.blocks() if b.name == block.name)
        calls.append(partial(_run, smaller_block, hidden))
    seconds = _median(calls, model)
    return Timing(points, np.maximum.accumulate(seconds).tolist())  # a wider one is never faster


def _median(calls: list[Callable[[], object]], model: SoftPromptModel) -> list[float]:
    on_gpu = next(model.parameters()).is_cuda
    wait = torch.cuda.synchronize if on_gpu else None
    times = interleave(calls, repeats=REPEATS, warmup=WARMUP, synchronise=wait)
    return [statistics.median(times_of_call) for times_of_call in times]


def _run(block: Block, hidden: Tensor) -> Tensor:
    if isinstance(block, AttentionBlock):
        return block.output(block.attention.context(hidden, hidden, None))
    inner = F.gelu(block.up[0](hidden))
    return block.down(inner * block.up[1](hidden) if len(block.up) == 2 else inner)
