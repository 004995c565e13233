"""How much of what two tasks keep is the same: Jaccard index of the kept neurons."""

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from skip_exp.models.sites import Site

Masks = Mapping[str, NDArray[np.bool_]]  # per site which of its neurons are kept


def kept(run: Mapping[str, Any]) -> Masks:
    """What the skill of a run (path, skill, keep_sizes) keeps; empty where there is no file."""
    file = Path(run["path"]).parent / (run["skill"] or "skill") / "skill.safetensors"
    sizes = {site: of for site, (_, of) in run["keep_sizes"].items()}
    try:
        with safe_open(file, framework="np") as tensors:
            names = {f"keep/{site}" for site in sizes}.intersection(tensors.keys())
            keeps = {name.removeprefix("keep/"): tensors.get_tensor(name) for name in names}
        masks = {site: _mask(keeps.get(site), of) for site, of in sizes.items()}
        for site in keeps:  # of a head that is gone no dim is kept
            heads = keeps.get(f"{Site(site).sublayer}.heads")
            if heads is not None and keeps[site].ndim == 2:
                left = masks[f"{Site(site).sublayer}.heads"][:, None]
                masks[site] = (masks[site].reshape(len(left), -1) & left).ravel()
    except (OSError, SafetensorError, IndexError, ValueError):
        return {}
    return masks if keeps else {}


def _mask(keep: NDArray[Any] | None, of: int) -> NDArray[np.bool_]:
    """Which of ``of`` neurons are kept; of dims [heads, kept], which of every head's."""
    mask = np.zeros((len(keep) if keep is not None and keep.ndim == 2 else 1, of), dtype=bool)
    if keep is not None:
        np.put_along_axis(mask, np.atleast_2d(keep), True, 1)
    return mask.ravel()


def compare(one: Masks, other: Masks) -> tuple[float, float] | None:
    """Jaccard index of two keeps of the same sites, and that expected by chance.

    Chance: of random choices that keep as many in each site (where sites are large). None where
    both are empty, or where the sites or their sizes differ.
    """
    if {s: len(mask) for s, mask in one.items()} != {s: len(mask) for s, mask in other.items()}:
        return None
    counts = [(one[site].sum(), other[site].sum(), len(one[site])) for site in one]
    kept_once = sum(a + b for a, b, _ in counts)
    if not kept_once:
        return None
    shared = sum(np.count_nonzero(one[site] & other[site]) for site in one)
    expected = sum(a * b / of for a, b, of in counts)
    return float(shared / (kept_once - shared)), float(expected / (kept_once - expected))


def overlaps(runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Titles, observed and chance as tasks x tasks (lower triangle), means over pairs of runs.

    Of each backbone and ratio where two tasks compare; per kind of neuron, since an FFN's units
    outnumber heads.
    """
    tables = []
    for (backbone, ratio), group in runs[runs["ratio"] > 0].groupby(["backbone", "ratio"]):
        keeps: dict[str, list[tuple[str, Masks]]] = defaultdict(list)
        for run in group.sort_values("task", kind="stable").to_dict("records"):
            masks = kept(run)
            for kind in {Site(site).kind for site in masks}:
                part = {site: mask for site, mask in masks.items() if Site(site).kind == kind}
                keeps[kind].append((run["task"], part))
        for kind, tasks in sorted(keeps.items()):
            pairs = [
                (b, a, *values)
                for (a, one), (b, other) in combinations(tasks, 2)
                if (values := compare(one, other))
            ]
            if any(b != a for b, a, *_ in pairs):
                frame = pd.DataFrame(pairs, columns=["b", "a", "observed", "chance"])
                means = frame.groupby(["b", "a"]).mean().unstack()
                title = f"{backbone} · {kind} · ratio {ratio:g}"
                tables.append((title, means["observed"], means["chance"]))
    return tables
