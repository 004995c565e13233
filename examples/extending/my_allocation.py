"""Allocation from the top down: the upper layers are removed first.

Dropping the top layers of BERT and RoBERTa costs least (Sajjad et al. 2020). Relevance decides
inside the one layer that is cut in part.
"""

from skip_exp.pruning.allocate import Group


def order(groups: list[Group]) -> list[Group]:
    """The order in which groups of neurons are removed until the ratio is reached.

    Args:
        groups: the groups of every site in ``prune.sites``. A group has a site, a size in neurons,
            a relevance (their sum) and a cost in parameters. A site's least relevant comes first.

    Returns:
        The same groups, by layer from the top, then by relevance per parameter.
    """

    def first(group: Group) -> tuple[int, float]:
        return -group.site.sublayer.layer, group.relevance / group.cost

    return sorted(groups, key=first)
