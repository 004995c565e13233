"""Choosing by measured time: the smallest ratio that is predicted to be as fast as was asked for.

A sublayer's time does not fall in proportion to its parameters, so it is measured on this device
for several widths (as in HALP, Shen et al. 2022, and ZipLM, Kurtic et al. 2023; see ``measure``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from skip_exp.errors import ConfigError
from skip_exp.models.sites import Keep, Site, Sublayer


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
