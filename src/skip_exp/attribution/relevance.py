"""Checks what an attribution method returns, which may be a custom one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skip_exp.models.sites import Relevance, Site


def check_relevance(found: Any, sizes: Mapping[Site, int]) -> Relevance:
    """The scores that a method returned, as relevance: fp32 on the CPU.

    Args:
        found: {site: scores}, as tensors or NumPy arrays.
        sizes: the number of neurons of each site.

    Raises:
        ValueError: not a mapping, a missing or unknown site, scores of a wrong shape or not finite,
            or all equal, which would prune in arbitrary order.
    """
    if not isinstance(found, Mapping):
        raise ValueError(f"must return {{site: scores}}, found {type(found).__name__}")
    if unknown := [str(site) for site in found if site not in sizes]:
        raise ValueError(f"{unknown[0]}: no such site; there are {', '.join(list(sizes)[:4])}, ...")
    relevance: Relevance = {}
    for site, size in sizes.items():
        relevance[site] = _check_scores(site, found.get(site), size)
    values = torch.cat(list(relevance.values()))
    if len(values) > 1 and bool((values == values[0]).all()):
        raise ValueError(
            f"all {len(values)} scores are {values[0]:g}: pruning needs different scores"
        )
    return relevance


def _check_scores(site: Site, scores: Any, size: int) -> Tensor:
    if not isinstance(scores, Tensor | np.ndarray):
        what = "nothing" if scores is None else type(scores).__name__
        raise ValueError(f"{site}: found {what}, needed a tensor [{size}]")
    if tuple(scores.shape) != (size,):
        raise ValueError(f"{site}: found scores {list(scores.shape)}, needed [{size}]")
    try:
        tensor = torch.as_tensor(scores).detach()
    except TypeError:  # an array of objects or texts
        tensor = torch.empty(0, dtype=torch.complex64)
    if tensor.is_complex():
        raise ValueError(f"{site}: found scores of type {scores.dtype}, needed numbers")
    tensor = tensor.to("cpu", torch.float32)
    if bad := int((~tensor.isfinite()).sum()):
        raise ValueError(
            f"{site}: {bad} of {tensor.numel()} scores are not finite, as after a fit that diverged"
        )
    return tensor
