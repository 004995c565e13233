"""How much of what two tasks keep is the same: Jaccard index of the kept neurons."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from skip_exp.models.sites import Site

Masks = Mapping[str, NDArray[np.bool_]]  # per site which of its neurons are kept


@dataclass(frozen=True)
class Keep:
    """The kept neurons of some sites, end to end."""

    mask: NDArray[np.bool_]
    sizes: NDArray[np.int64]  # neurons per site
    counts: NDArray[np.int64]  # of them kept

    @classmethod
    def of(cls, masks: Masks) -> "Keep":
        """In the order of the sites' names, so that keeps of the same sites compare."""
        parts = [masks[site] for site in sorted(masks)]
        sizes = np.array([len(part) for part in parts])
        return cls(np.concatenate(parts), sizes, np.array([part.sum() for part in parts]))


def kept(run: Mapping[str, Any]) -> Masks:
    """What the skill of a run (path, skill, keep_sizes) keeps; empty where there is no file."""
    file = Path(run["path"]).parent / (run["skill"] or "skill") / "skill.safetensors"
    masks = {site: np.zeros(of, dtype=bool) for site, (_, of) in run["keep_sizes"].items()}
    is_told = False
    try:
        with safe_open(file, framework="np") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a mapping)
                site = key.removeprefix("keep/")
                if key != site and site in masks:
                    masks[site][tensors.get_tensor(key)] = True
                    is_told = True
    except (OSError, SafetensorError, IndexError):
        return {}
    return masks if is_told else {}


def jaccard(one: Keep, other: Keep) -> float | None:
    """Size of the intersection over size of the union; None where both are empty."""
    either = np.count_nonzero(one.mask | other.mask)
    return np.count_nonzero(one.mask & other.mask) / either if either else None


def chance(one: Keep, other: Keep) -> float:
    """What `jaccard` gives for random choices that keep as many in each site (large sites)."""
    both = one.counts * other.counts / one.sizes
    either = np.sum(one.counts + other.counts - both)
    return float(np.sum(both) / either) if either else 0.0


def overlaps(runs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of runs of one backbone and ratio, per kind of neuron: an FFN's units outnumber heads.

    Columns: backbone, ratio, kind, a and b (tasks in order), observed, chance.
    """
    pairs = []
    for (backbone, ratio), group in runs[runs["ratio"] > 0].groupby(["backbone", "ratio"]):
        for kind, keeps in _keeps(group).items():
            for (a, one), (b, other) in combinations_with_replacement(keeps, 2):
                value = jaccard(one, other) if one is not other else None
                if value is not None and np.array_equal(one.sizes, other.sizes):
                    pairs.append((backbone, ratio, kind, a, b, value, chance(one, other)))
    columns = ["backbone", "ratio", "kind", "a", "b", "observed", "chance"]
    return pd.DataFrame(pairs, columns=columns)


def _keeps(runs: pd.DataFrame) -> dict[str, list[tuple[str, Keep]]]:
    """Per kind of neuron the tasks, in order, with what each of their runs keeps."""
    keeps: dict[str, list[tuple[str, Keep]]] = defaultdict(list)
    for run in runs.sort_values("task", kind="stable").to_dict("records"):
        masks = kept(run)
        for kind in sorted({Site(site).kind for site in masks}):
            part = {site: mask for site, mask in masks.items() if Site(site).kind == kind}
            keeps[kind].append((run["task"], Keep.of(part)))
    return keeps


def matrices(pairs: pd.DataFrame) -> Sequence[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Titles, observed and chance as tasks x tasks (lower triangle), where two tasks compare."""
    told = []
    for (backbone, ratio, kind), group in pairs.groupby(["backbone", "ratio", "kind"]):
        if (group["a"] != group["b"]).any():
            means = group.groupby(["b", "a"])[["observed", "chance"]].mean().unstack()
            title = f"{backbone} · {kind} · ratio {ratio:g}"
            told.append((title, means["observed"], means["chance"]))
    return told
