"""Choose what to keep, from relevance and a budget. No model is changed and no data is read."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from skip_exp.config.checks import import_part
from skip_exp.errors import ConfigError
from skip_exp.models.family import Keep, Relevance, Site
from skip_exp.models.surgery import Shape


@dataclass(frozen=True)
class Group:
    """Neurons of one site that are removed together: the next ``size`` least relevant ones."""

    site: Site
    size: int
    relevance: float  # of the whole group
    cost: int  # parameters that are removed with it


def allocate(
    relevance: Relevance,
    sizes: list[Shape],
    *,
    ratio: float,
    sites: list[str],
    allocation: str = "global",
    round_to: int = 8,
    layers: int | None = None,
) -> Keep:
    """Choose the neurons to keep, so that ``ratio`` of the block parameters is removed.

    The least relevant go first. The ratio reached is at most ``ratio``.

    Example:
        >>> keep = allocate(relevance, shapes_of(model), ratio=0.5, sites=["ffn", "heads"])
        >>> keep["encoder.0.ffn"]  # sorted indices of the units to keep
        tensor([  0,   3,   4, ...])

    Args:
        relevance: scores of every site in ``sites`` (see ``attribution``).
        sizes: the blocks' shapes; the budget is a fraction of their parameters.
        sites: kinds of neurons that may be removed: ffn, heads.
        allocation: ``global`` ranks each kind across all layers of its stack (T5's self- and
            cross-attention apart), and every kind loses the same fraction; ``uniform`` removes the
            same fraction from every site; or a custom order as ``module.function``.
        round_to: step in which FFN units are removed, so that widths stay multiples of it.
        layers: later layers go first, whole; None: there are none.

    Returns:
        keep, see :func:`skip_exp.models.surgery.cut`.

    Raises:
        ConfigError: ``sites`` and ``layers`` cannot reach ``ratio``, or an unknown choice.
    """
    check(sizes, ratio=ratio, sites=sites, allocation=allocation, layers=layers)
    # What the later layers hold counts towards the ratio.
    left = _select_layers(sizes, layers)
    total = _count_parameters(sizes)
    max_removed = ratio * total - (total - _count_parameters(left))
    groups = _group_neurons(relevance, left, sites, round_to)
    removed = _fill(_order_groups(groups, allocation), max_removed)
    ranked = dict.fromkeys(group.site for group in groups)
    keep: Keep = {site: top(relevance[site], removed.get(site, 0)) for site in ranked}
    keep |= {shape.name.site: torch.arange(0) for shape in sizes if shape not in left}
    return keep


def check(
    sizes: list[Shape],
    *,
    ratio: float | None,
    sites: list[str],
    allocation: str,
    layers: int | None = None,
) -> None:
    """Raise ConfigError for what :func:`allocate` cannot do, before any work is spent.

    A ``ratio`` that is None is not known yet.
    """
    order_of(allocation)  # raises where there is none
    if layers is not None:
        depth = min(Counter(s.name.stack for s in sizes if s.name.part == "ffn").values())
        if layers > depth:
            raise ConfigError(
                "prune.layers", layers, f"must be at most {depth}, all that there are"
            )
    low, high = bounds(sizes, sites, layers)
    if ratio is not None and not low <= ratio <= high:
        least = math.ceil(low * 1000) / 1000
        most = int(high * 1000) / 1000
        raise ConfigError(
            "prune.ratio",
            ratio,
            f"must be from {least} to {most} with prune.sites={list(sites)}, prune.layers={layers}",
        )


def bounds(sizes: list[Shape], sites: list[str], layers: int | None = None) -> tuple[float, float]:
    """The ratio that ``layers`` removes, and the largest one that ``sites`` can reach then."""
    left = _select_layers(sizes, layers)
    total = _count_parameters(sizes)
    least = sum(s.rest if s.name.site.kind in sites else s.parameters for s in left)
    return (total - _count_parameters(left)) / total, 1 - least / total


def _select_layers(sizes: list[Shape], layers: int | None) -> list[Shape]:
    return [shape for shape in sizes if layers is None or shape.name.layer < layers]


def _count_parameters(sizes: list[Shape]) -> int:
    return sum(shape.parameters for shape in sizes)


def _group_neurons(
    relevance: Relevance, sizes: list[Shape], sites: list[str], round_to: int
) -> list[Group]:
    """Group the neurons of every site, least relevant first."""
    groups = []
    for shape in sizes:
        site = shape.name.site
        if site.kind not in sites or not shape.units:
            continue
        scores = relevance[site].double().sort().values
        step = 1 if site.kind == "heads" else min(round_to, len(scores))
        # The least relevant group is the incomplete one.
        edges = sorted({0} | set(range(len(scores) % step, len(scores) + 1, step)))
        for low, high in pairwise(edges):
            size = high - low
            groups.append(Group(site, size, float(scores[low:high].sum()), size * shape.cost))
    return groups


def _take_evenly(groups: list[Group], name: Callable[[Group], str]) -> list[Group]:
    """Order that takes the same fraction, by cost, from every class that ``name`` names."""
    ranked = sorted(groups, key=lambda group: group.relevance / group.cost)
    totals: Counter[str] = Counter()
    for group in ranked:
        totals[name(group)] += group.cost
    # Groups go in the order of the fraction of their class that is gone with them.
    removed: Counter[str] = Counter()
    fractions = []
    for position, group in enumerate(ranked):
        removed[name(group)] += group.cost
        fractions.append((removed[name(group)] / totals[name(group)], position))
    return [ranked[position] for _, position in sorted(fractions)]


ORDERS: dict[str, Callable[[list[Group]], list[Group]]] = {
    "global": lambda groups: _take_evenly(groups, lambda group: group.site.like),
    "uniform": lambda groups: _take_evenly(groups, lambda group: group.site),
}


def order_of(allocation: str) -> Callable[[list[Group]], list[Group]]:
    """Find the order in which groups go: one of ORDERS, or a custom one as ``module.function``.

    Raises:
        ConfigError: it cannot be imported, or is not a function.
    """
    return ORDERS.get(allocation) or import_part("prune.allocation", allocation)


def _order_groups(groups: list[Group], allocation: str) -> list[Group]:
    """The groups in the order in which they go, each at most once. Raises ConfigError."""
    returned = order_of(allocation)(list(groups))
    order = list(returned) if isinstance(returned, Iterable) else [returned]
    if len(set(map(id, order)) & set(map(id, groups))) < len(order):
        raise ConfigError(
            "prune.allocation",
            allocation,
            "must return the groups that it was given, each at most once",
        )
    return order


def _fill(order: list[Group], max_removed: float) -> dict[str, int]:
    """Count the neurons of each site to remove, in order: whatever fits the budget."""
    removed: dict[str, int] = {}
    closed = set()  # sites whose next group did not fit: all groups after it stay
    spent = 0
    for group in order:
        if spent + group.cost > max_removed:
            closed.add(group.site)
        elif group.site not in closed:
            spent += group.cost
            removed[group.site] = removed.get(group.site, 0) + group.size
    return removed


def top(scores: Tensor, removed: int) -> Tensor:
    """Sorted indices of all but the ``removed`` lowest scores."""
    return scores.argsort(stable=True)[removed:].sort().values
