"""The config group ``prune``: how much is to go, and how."""

import math
from dataclasses import dataclass, field
from typing import Any

from skip_exp.config.checks import is_number, one_of_or_own, positive
from skip_exp.config.names import ALLOCATIONS, KINDS
from skip_exp.errors import ConfigError

AUTO = "auto"
MISSED = 0.02  # of the block parameters: how far from its ratio a job may end without a remark


@dataclass(frozen=True)
class Goal:
    """How much is to go: exactly one of the three is set."""

    ratio: float | None = None  # of the block parameters
    max_drop: float | None = None  # points of the main metric: the largest ratio within it
    target_speedup: float | None = None  # times dense: the smallest ratio that is as fast


@dataclass
class PruneConfig:
    # Fraction of block parameters to remove, in [0, 1), or `auto`: as large as max_drop allows.
    ratio: Any = 0.5
    max_drop: float | None = None  # of `auto`: points of the main metric, on the selection slice
    sites: list[str] = field(default_factory=lambda: ["ffn", "heads"])
    allocation: str = "global"  # global | uniform, or module.function of your own
    round_to: int = 8  # FFN widths are multiples of this
    target_speedup: float | None = None  # takes the place of `ratio`
    steps: int = 1  # of equal size, each after an attribution of what the last one left
    step_epochs: int = 0  # of re-tuning between two steps

    @property
    def goal(self) -> Goal:
        """What `ratio`, `max_drop` and `target_speedup` ask for together."""
        if self.ratio == AUTO:
            return Goal(max_drop=self.max_drop)
        if self.target_speedup is not None:
            return Goal(target_speedup=self.target_speedup)
        return Goal(ratio=float(self.ratio))

    def __post_init__(self) -> None:
        self._check_goal()
        self._check_steps()
        positive("prune", self, round_to=10**6)
        one_of_or_own("prune.allocation", self.allocation, ALLOCATIONS)
        if not self.sites or set(self.sites) - set(KINDS):
            raise ConfigError("prune.sites", self.sites, f"must be some of {', '.join(KINDS)}")

    def _check_goal(self) -> None:
        """`max_drop` and ratio=auto go together, and with nothing else that asks."""
        auto, bound, speedup = self.ratio == AUTO, self.max_drop, self.target_speedup
        if not auto and not is_number(self.ratio):
            raise ConfigError("prune.ratio", self.ratio, "must be a number in [0, 1) or auto")
        if not auto and not 0 <= float(self.ratio) < 1:
            raise ConfigError("prune.ratio", self.ratio, "must be in [0, 1)")
        if auto and speedup is not None:
            why = f"prune.ratio={AUTO} looks for a ratio by itself: give one of the two"
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

    def _check_steps(self) -> None:
        """Several steps go with a ratio; what is tuned between them is what was cut."""
        if self.steps < 1:
            raise ConfigError("prune.steps", self.steps, "must be at least 1")
        if self.step_epochs < 0:
            raise ConfigError("prune.step_epochs", self.step_epochs, "must be at least 0")
        if self.steps > 1 and self.target_speedup is not None:
            raise ConfigError("prune.steps", self.steps, "must be 1 with prune.target_speedup")
