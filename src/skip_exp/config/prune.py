"""The config group ``prune``: how much is pruned, and how."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skip_exp.config.checks import key, one_of, positive
from skip_exp.config.names import ALLOCATIONS, KINDS
from skip_exp.errors import ConfigError

DIGITS = 6  # of a ratio that count: a range of Hydra's has 0.7000000000000001
FASTEST = ("one", "batches")
MISSED = 0.02  # a job that ends further from its ratio warns; in block parameters


@dataclass(frozen=True)
class Goal:
    """What `prune` asks for: exactly one of them is set."""

    ratio: float | None = None  # fraction of the block parameters
    target_speedup: float | None = None  # times dense: find the smallest ratio that is as fast
    within: float | None = None  # points of the main metric: find the fastest model within them


@dataclass
class PruneConfig:
    ratio: float = key(0.5, "Fraction of the block parameters to remove.")
    target_speedup: float | None = key(None, "Instead of a ratio: prune until this much faster.")
    within: float | None = key(
        None, "Instead of a ratio: find the fastest model that loses at most so many points."
    )
    fastest: str = key(
        "one", "What `within` makes fast: `one` text on one thread, or `batches` on all threads."
    )
    sites: list[str] = key(lambda: ["ffn", "heads"], f"What is pruned: some of {', '.join(KINDS)}.")
    allocation: str = key("global", "global or uniform over layers, or a custom module.function.")
    round_to: int = key(8, "Step in which FFN units go: widths stay multiples of it.")
    layers: int | None = key(
        None, "Remove whole layers after this many, in T5's decoder too, then cut to the ratio."
    )

    @property
    def goal(self) -> Goal:
        """The goal that `ratio` and those that replace it set together."""
        if self.within is not None:
            return Goal(within=self.within)
        if self.target_speedup is not None:
            return Goal(target_speedup=self.target_speedup)
        return Goal(ratio=self.ratio)

    def __post_init__(self) -> None:
        speedup, within = self.target_speedup, self.within
        self.ratio = round(self.ratio, DIGITS)
        if not 0 <= self.ratio < 1:
            raise ConfigError("prune.ratio", self.ratio, "must be in [0, 1)")
        if speedup is not None and not 1 <= speedup < math.inf:
            raise ConfigError("prune.target_speedup", speedup, "must be at least 1")
        if within is not None and speedup is not None:
            why = "excludes prune.target_speedup; leave one of them out"
            raise ConfigError("prune.within", within, why)
        if within is not None and not 0 <= within <= 100:
            raise ConfigError("prune.within", within, "must be 0 to 100 points")
        one_of("prune.fastest", self.fastest, FASTEST)
        positive("prune", self, round_to=10**6)
        if self.layers is not None:
            positive("prune", self, layers=1000)
        # A custom function is looked up when its job starts: an import may take seconds.
        if self.allocation not in ALLOCATIONS and "." not in self.allocation:
            allowed = f"must be one of {', '.join(ALLOCATIONS)}, or a custom module.function"
            raise ConfigError("prune.allocation", self.allocation, allowed)
        if not self.sites or set(self.sites) - set(KINDS):
            raise ConfigError("prune.sites", self.sites, f"must be some of {', '.join(KINDS)}")


def name_goal(prune: Mapping[str, Any]) -> str:
    """``0.5``, ``2x``, ``within1`` or ``0.9-3layers``: the goal in names of folders.

    The settings are not yet checked.
    """
    kind = next(k for k in ("within", "target_speedup", "ratio") if prune.get(k) is not None)
    value = f"{prune[kind]:g}" if isinstance(prune[kind], float) else prune[kind]
    goal = {"within": f"within{value}", "target_speedup": f"{value}x", "ratio": f"{value}"}[kind]
    layers = prune.get("layers")
    return goal if layers is None else f"{goal}-{layers}layers"
