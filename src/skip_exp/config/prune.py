"""The config group ``prune``: how much is pruned, and how."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from skip_exp.config.checks import is_number, one_of_or_own, positive
from skip_exp.config.keys import key
from skip_exp.config.names import ALLOCATIONS, KINDS
from skip_exp.errors import ConfigError

AUTO = "auto"
DIGITS = 6  # of a ratio that count: a range of Hydra's has 0.7000000000000001
MISSED = 0.02  # a job that ends further from its ratio warns; in block parameters


@dataclass(frozen=True)
class Goal:
    """What `prune` asks for: exactly one of the three is set."""

    ratio: float | None = None  # fraction of the block parameters
    max_drop: float | None = None  # points of the main metric: find the largest ratio within them
    target_speedup: float | None = None  # times dense: find the smallest ratio that is as fast


@dataclass
class PruneConfig:
    ratio: Any = key(0.5, "Fraction of the block parameters to remove, or auto: see max_drop.")
    max_drop: float | None = key(None, "Largest loss in metric points that ratio=auto accepts.")
    sites: list[str] = key(lambda: ["ffn", "heads"], "What is pruned: some of ffn, heads, qk, vo.")
    allocation: str = key("global", "global or uniform over layers, or a custom module.function.")
    round_to: int = key(8, "Step in which FFN units and dims go: widths stay multiples of it.")
    target_speedup: float | None = key(None, "Prune until this many times faster, not by ratio.")

    @property
    def goal(self) -> Goal:
        """The goal that `ratio`, `max_drop` and `target_speedup` set together."""
        if self.ratio == AUTO:
            return Goal(max_drop=self.max_drop)
        if self.target_speedup is not None:
            return Goal(target_speedup=self.target_speedup)
        return Goal(ratio=round(float(self.ratio), DIGITS))

    def __post_init__(self) -> None:
        self._check_goal()
        positive("prune", self, round_to=10**6)
        one_of_or_own("prune.allocation", self.allocation, ALLOCATIONS)
        if not self.sites or set(self.sites) - set(KINDS):
            raise ConfigError("prune.sites", self.sites, f"must be some of {', '.join(KINDS)}")

    def _check_goal(self) -> None:
        """`max_drop` and ratio=auto need each other and exclude `target_speedup`."""
        auto, bound, speedup = self.ratio == AUTO, self.max_drop, self.target_speedup
        if not auto and not is_number(self.ratio):
            raise ConfigError("prune.ratio", self.ratio, "must be a number in [0, 1) or auto")
        if not auto and not 0 <= round(float(self.ratio), DIGITS) < 1:
            raise ConfigError("prune.ratio", self.ratio, "must be in [0, 1)")
        if auto and speedup is not None:
            why = f"excludes prune.ratio={AUTO}, which finds a ratio by itself"
            raise ConfigError("prune.target_speedup", speedup, why)
        if auto and bound is None:
            why = "needs prune.max_drop, in points of the main metric, e.g. 1.0"
            raise ConfigError("prune.ratio", AUTO, why)
        if not auto and bound is not None:
            raise ConfigError("prune.max_drop", bound, f"needs prune.ratio={AUTO}")
        if bound is not None and not 0 <= bound < math.inf:
            raise ConfigError("prune.max_drop", bound, "must be at least 0 points")
        if speedup is not None and not 1 <= speedup < math.inf:
            raise ConfigError("prune.target_speedup", speedup, "must be at least 1")


def named_goal(prune: Mapping[str, Any]) -> str:
    """``0.5``, ``auto`` or ``2x``: the goal in names of folders, of settings not yet checked."""
    speedup, ratio = prune.get("target_speedup"), prune["ratio"]
    if speedup is not None:
        return f"{speedup:g}x" if isinstance(speedup, float) else f"{speedup}x"
    return str(round(ratio, DIGITS) if isinstance(ratio, float) else ratio)


# ``${goal:}``, at import: a launcher's worker composes its job's configuration before it runs it.
OmegaConf.register_new_resolver("goal", lambda _root_: named_goal(_root_.prune), replace=True)
