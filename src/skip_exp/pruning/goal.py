"""What ``prune.*`` asks for; what cannot be had is refused before any work is spent."""

import math
from typing import Any

from skip_exp.config.schema import AnyConfig
from skip_exp.errors import ConfigError
from skip_exp.models.sites import Shape
from skip_exp.pruning import allocate, reconstruct

AUTO = "auto"


def ratio(prune: AnyConfig) -> float | None:
    """``prune.ratio``; None where it is ``auto``: to be found. Raises ConfigError."""
    value = prune.ratio
    if value == AUTO:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError("prune.ratio", value, "must be a number in [0, 1) or auto") from None


def left(prune: AnyConfig, ratio: float) -> float:
    """Cost of a pass after the cut, as a fraction of the dense model's; in (0, 1]."""
    speedup = prune.target_speedup
    return 1 - ratio if speedup is None else 1 / speedup


def settings(prune: AnyConfig, ratio: float) -> dict[str, Any]:
    """Keyword arguments of :func:`skip_exp.pruning.allocate.select`."""
    own = {"allocation": prune.allocation, "round_to": prune.round_to}
    return {"ratio": ratio, "sites": list(prune.sites), **own}


def check(prune: AnyConfig, retune: AnyConfig, sizes: list[Shape]) -> None:
    """Refuse what the backbone with these ``sizes`` cannot give; raises ConfigError."""
    asked, speedup = ratio(prune), prune.target_speedup
    if prune.reconstruct not in reconstruct.METHODS:
        allowed = f"must be one of {', '.join(reconstruct.METHODS)}"
        raise ConfigError("prune.reconstruct", prune.reconstruct, allowed)
    if prune.rank < 1:
        raise ConfigError("prune.rank", prune.rank, "must be at least 1")
    _check_bound(prune, asked)
    _check_steps(prune, retune)
    if speedup is None:
        if prune.allocation == "latency":
            raise ConfigError("prune.allocation", "latency", "needs prune.target_speedup, e.g. 2.0")
        allocate.check(sizes, **settings(prune, 0.0 if asked is None else asked))
        return
    # What speed-up can be reached is known once the sublayers are timed.
    if speedup < 1:
        raise ConfigError("prune.target_speedup", speedup, "must be at least 1")
    allocation = "global" if prune.allocation == "latency" else prune.allocation
    allocate.check(sizes, **settings(prune, 0.0) | {"allocation": allocation})


def _check_bound(prune: AnyConfig, asked: float | None) -> None:
    """``prune.max_drop`` and ``prune.ratio=auto`` go together, and with nothing else that asks."""
    bound = prune.max_drop
    if asked is None and prune.target_speedup is not None:
        why = f"prune.ratio={AUTO} looks for a ratio by itself: give one of the two"
        raise ConfigError("prune.target_speedup", prune.target_speedup, why)
    if asked is None and bound is None:
        why = "needs prune.max_drop, in points of the main metric, e.g. 1.0"
        raise ConfigError("prune.ratio", AUTO, why)
    if asked is not None and bound is not None:
        raise ConfigError("prune.max_drop", bound, f"needs prune.ratio={AUTO}")
    if bound is not None and not 0 <= bound < math.inf:
        raise ConfigError("prune.max_drop", bound, "must be at least 0 points")


def _check_steps(prune: AnyConfig, retune: AnyConfig) -> None:
    """Several steps go with a ratio, and tuning between them with what is tuned after them."""
    steps, epochs = prune.steps, prune.step_epochs
    if steps < 1:
        raise ConfigError("prune.steps", steps, "must be at least 1")
    if epochs < 0:
        raise ConfigError("prune.step_epochs", epochs, "must be at least 0")
    if steps > 1 and prune.target_speedup is not None:
        raise ConfigError("prune.steps", steps, "must be 1 with prune.target_speedup")
    if epochs and not retune.enabled:
        raise ConfigError("prune.step_epochs", epochs, "must be 0 with retune.enabled=false")
    if epochs and steps > 1 and prune.reconstruct != "none":
        # The change is computed from the dense model, which is not what was tuned in between.
        why = f"must be 0 with prune.reconstruct={prune.reconstruct}"
        raise ConfigError("prune.step_epochs", epochs, why)
