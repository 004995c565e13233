"""Choosing by measured time: a speed-up asked for -> the keep that loses the least relevance.

A sublayer's time does not fall in proportion to its parameters, so it is measured on this device
for several widths (as in HALP, Shen et al. 2022, and ZipLM, Kurtic et al. 2023; see ``measure``),
and dynamic programming picks one width per sublayer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from skip_exp.errors import ConfigError
from skip_exp.models.sites import Keep, Relevance, Shape, Site, Sublayer
from skip_exp.pruning.allocate import top

BINS = 4000  # of the time budget; each block's time is rounded up to whole ones


@dataclass(frozen=True)
class Timing:
    """Seconds of one sublayer at some widths of one of its sites, both ascending."""

    widths: list[int]
    seconds: list[float]

    def at(self, width: int) -> float:
        return float(np.interp(width, self.widths, self.seconds))


@dataclass(frozen=True)
class Table:
    """Where a forward pass spends its time."""

    total: float  # seconds of the dense model
    sites: Mapping[str, Timing]  # those of one sublayer all end with the whole sublayer's time

    @property
    def rest(self) -> float:
        """What no cut makes faster: embeddings, norms, readout."""
        return max(0.0, self.total - self._blocks({}))

    def speedup(self, widths: Mapping[str, int]) -> float:
        """Of a model with these widths; a site that is not named is whole."""
        return self.total / (self.rest + self._blocks(widths))

    def _blocks(self, widths: Mapping[str, int]) -> float:
        by_sublayer: dict[Sublayer, list[Site]] = {}
        for site in map(Site, self.sites):
            by_sublayer.setdefault(site.sublayer, []).append(site)
        return sum(self._seconds(sites, widths) for sites in by_sublayer.values())

    def _seconds(self, sites: list[Site], widths: Mapping[str, int]) -> float:
        """Of one sublayer: queries and keys save by themselves, values do, and heads both."""
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
    """How many neurons of each site ``keep`` keeps; of dims, in every head."""
    return {site: kept.shape[-1] for site, kept in keep.items()}


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
    fastest = table.speedup({_whole(shape): options[shape.name][0] for shape in sizes})
    if not 1 <= target_speedup <= fastest:
        most = f"must be between 1 and {int(fastest * 100) / 100} with prune.sites={sites}"
        raise ConfigError("prune.target_speedup", target_speedup, most)
    parts = shares({_whole(shape): relevance[_whole(shape)] for shape in sizes})
    scores = {shape.name: parts[_whole(shape)].sort().values for shape in sizes}
    lost, seconds = [], []
    for name, option_widths in options.items():
        lost.append([float(scores[name][: len(scores[name]) - k].sum()) for k in option_widths])
    for shape in sizes:
        seconds.append([table.sites[_whole(shape)].at(k) for k in options[shape.name]])
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
