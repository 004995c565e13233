"""Choosing: relevance and a budget -> what to keep. No model is touched, no data is read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from skip_exp.config.named import named
from skip_exp.config.names import KINDS
from skip_exp.errors import ConfigError, SkipError
from skip_exp.models.sites import Keep, Relevance, Shape, Site


@dataclass(frozen=True)
class Group:
    """Neurons of one site that go together: the next ``size`` least relevant ones."""

    site: Site
    size: int
    relevance: float  # of the whole group
    cost: int  # parameters, everything else being kept


def allocate(
    relevance: Relevance,
    sizes: list[Shape],
    *,
    ratio: float,
    sites: list[str],
    allocation: str = "global",
    round_to: int = 8,
    earlier: Keep | None = None,
    last: bool = True,
) -> Keep:
    """The neurons to keep so that ``ratio`` of the block parameters goes, the least relevant first.

    Args:
        relevance: scores of every site in ``sites`` (see ``attribution``).
        sizes: the blocks' shapes; the budget is a fraction of their parameters.
        sites: kinds of neuron that may go: ffn, heads, qk, vo.
        allocation: ``global``: each kind is ranked across all layers of its stack (T5's self- and
            cross-attention by themselves), and every kind loses the same fraction; ``uniform``:
            every site loses the same fraction.
        round_to: FFN units and dims are removed in such steps, so that widths stay multiples of it.
        earlier: what an earlier step kept; all else goes first, whatever its relevance.
        last: whether small groups may fill what the next large one leaves of the budget. Without
            it a later step with the same relevance goes on where this one ends, as if at once.

    Returns:
        keep, see :func:`skip_exp.pruning.surgery.cut`; the ratio reached is at most ``ratio``.

    Raises:
        ConfigError: a ratio outside [0, 1) or beyond what ``sites`` can reach; an unknown choice.
    """
    check(sizes, ratio=ratio, sites=sites, allocation=allocation)
    earlier = earlier or {}
    groups = _groups(relevance, sizes, sites, round_to, earlier)
    max_removed = ratio * sum(shape.parameters for shape in sizes)
    removed = _fill(order_of(allocation)(groups), sizes, max_removed, last)
    return {
        site: top(_gone_first(relevance[site], earlier.get(site)), removed.get(site, 0))
        for site in dict.fromkeys(group.site for group in groups)
    }


def check(sizes: list[Shape], *, ratio: float, sites: list[str], allocation: str) -> None:
    """Refuse what :func:`allocate` cannot do, before any work is spent; raises ConfigError."""
    if not sites or set(sites) - set(KINDS):
        raise ConfigError("prune.sites", list(sites), f"must be some of {', '.join(KINDS)}")
    order_of(allocation)
    limit = most(sizes, sites)
    if ratio > limit:
        raise ConfigError(
            "prune.ratio",
            ratio,
            f"with prune.sites={list(sites)} at most {int(limit * 1000) / 1000} can be reached",
        )


def most(sizes: list[Shape], sites: list[str]) -> float:
    """The ratio that is left when everything in ``sites`` goes."""
    least = sum(_without(shape, sites).parameters for shape in sizes)
    return 1 - least / sum(shape.parameters for shape in sizes)


def _without(shape: Shape, sites: list[str]) -> Shape:
    """``shape`` once everything in ``sites`` is gone."""
    if shape.whole in sites:
        return shape.without(shape.whole, shape.units)
    if shape.whole == "ffn":
        return shape
    return replace(shape, qk=0 if "qk" in sites else shape.qk, vo=0 if "vo" in sites else shape.vo)


def _gone_first(scores: Tensor, kept: Tensor | None) -> Tensor:
    """``scores`` with all but the ``kept`` indices (of each row) below every other."""
    if kept is None:
        return scores
    return torch.full_like(scores, -torch.inf).scatter(-1, kept, scores.gather(-1, kept))


def _groups(
    relevance: Relevance,
    sizes: list[Shape],
    sites: list[str],
    round_to: int,
    earlier: Keep,
) -> list[Group]:
    """Every site's neurons in groups, least relevant first."""
    groups = []
    for shape in sizes:
        for site in shape.sites():
            if site.kind not in sites:
                continue
            scores = relevance[site].double()
            if not scores.isfinite().all():
                raise SkipError(f"attribution: the relevance of {site} is not finite")
            scores = _gone_first(scores, earlier.get(site))
            if scores.dim() == 2:  # dims: the r-th least relevant of every head go together
                scores = scores.sort(dim=1).values.sum(0)
            scores = scores.sort().values
            step = 1 if site.kind == "heads" else min(round_to, len(scores))
            first = len(scores) % step
            bounds = [0, *([first] if first else []), *range(first + step, len(scores) + 1, step)]
            cost = shape.cost(site.kind)
            for low, high in pairwise(bounds):
                size = high - low
                groups.append(Group(site, size, float(scores[low:high].sum()), size * cost))
    return groups


def _quantiles(groups: list[Group], of: Callable[[Group], str]) -> list[Group]:
    """Order that takes the same fraction, by cost, from every class that ``of`` tells apart."""
    ranked = sorted(groups, key=lambda group: group.relevance / group.cost)
    totals: dict[str, int] = {}
    for group in ranked:
        totals[of(group)] = totals.get(of(group), 0) + group.cost
    gone = dict.fromkeys(totals, 0)
    keyed = []
    for position, group in enumerate(ranked):
        gone[of(group)] += group.cost
        keyed.append((gone[of(group)] / totals[of(group)], position, group))
    return [group for _, _, group in sorted(keyed, key=lambda item: item[:2])]


ORDERS: dict[str, Callable[[list[Group]], list[Group]]] = {
    "global": lambda groups: _quantiles(groups, lambda group: group.site.like),
    "uniform": lambda groups: _quantiles(groups, lambda group: group.site),
}


def order_of(allocation: str) -> Callable[[list[Group]], list[Group]]:
    """The order in which groups go: of ORDERS, or a function of the user's own by its place.

    Raises:
        ConfigError: neither.
    """
    if allocation in ORDERS:
        return ORDERS[allocation]
    found = named("prune.allocation", allocation)
    if not callable(found):
        raise ConfigError("prune.allocation", allocation, "must be a function (groups) -> groups")
    return cast(Callable[[list[Group]], list[Group]], found)


def _fill(order: list[Group], sizes: list[Shape], max_removed: float, last: bool) -> dict[str, int]:
    """How many neurons of each site go: in order, whatever fits; or else, up to what does not."""
    now = {shape.name: shape for shape in sizes}
    removed: dict[str, int] = {}
    closed = set()  # sites whose next group did not fit: those after it must stay, too
    spent = 0
    for group in order:
        if group.site in closed:
            continue
        before = now[group.site.sublayer]
        after = before.without(group.site.kind, group.size)
        cost = before.parameters - after.parameters
        if spent + cost > max_removed:
            if not last:
                break
            closed.add(group.site)
            continue
        now[group.site.sublayer] = after
        spent += cost
        removed[group.site] = removed.get(group.site, 0) + group.size
    return removed


def top(scores: Tensor, removed: int) -> Tensor:
    """Sorted indices of all but the ``removed`` lowest scores, along the last dimension."""
    return scores.argsort(dim=-1, stable=True)[..., removed:].sort(dim=-1).values
