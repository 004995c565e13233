"""Allocation from the top down: the upper layers go first, whatever their relevance.

Of BERT and RoBERTa the top layers can be dropped at the least cost (Sajjad et al. 2020). Relevance
decides inside the one layer that is cut in part.
"""

from skip_exp.pruning.allocate import Group


def order(groups: list[Group]) -> list[Group]:
    """The order in which groups of neurons go, until the asked ratio is reached.

    Args:
        groups: of every site in ``prune.sites``: its site, size (neurons), relevance (of all of
            them together) and cost (parameters). A site's least relevant group stands first.

    Returns:
        The same groups: the highest layer first, within it the least relevance per parameter.
    """

    def first(group: Group) -> tuple[int, float]:
        return -group.site.sublayer.layer, group.relevance / group.cost

    return sorted(groups, key=first)
