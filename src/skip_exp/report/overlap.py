"""How much of what two tasks keep is the same: Jaccard index of the kept neurons."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from skip_exp.report.cells import Cell, Stat, stat
from skip_exp.report.text import Found

Masks = Mapping[str, NDArray[np.bool_]]  # per site which of its neurons are kept


@dataclass(frozen=True)
class Keep:
    """The kept neurons of some sites, end to end."""

    mask: NDArray[np.bool_]
    sizes: NDArray[np.int64]  # neurons per site
    counts: NDArray[np.int64]  # of them kept

    @classmethod
    def of(cls, masks: Masks) -> "Keep":
        parts = [masks[site] for site in sorted(masks)]
        sizes = np.array([len(part) for part in parts])
        return cls(np.concatenate(parts), sizes, np.array([part.sum() for part in parts]))


@dataclass(frozen=True)
class Overlap:
    """One matrix of task pairs; the diagonal compares the seeds of one task."""

    backbone: str
    ratio: float
    kind: str  # ffn, heads ...
    tasks: list[str]
    observed: dict[tuple[str, str], Stat]  # pairs in the order of `tasks`
    chance: dict[tuple[str, str], float]  # expected of two random choices of the same sizes


def kept(run: Found) -> Masks:
    """What the run's skill keeps; empty where the skill file is not there."""
    folder = Path(str(run.get("path", ""))).parent / str(run.get("skill") or "skill")
    sizes: Mapping[str, Sequence[int]] = run.get("keep_sizes") or {}
    masks = {site: np.zeros(size, dtype=bool) for site, (_, size) in sizes.items()}
    found = False
    try:
        with safe_open(folder / "skill.safetensors", framework="np") as file:
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                site = key.removeprefix("keep/")
                if key != site and site in masks:
                    masks[site][file.get_tensor(key)] = True
                    found = True
    except (OSError, SafetensorError, IndexError):
        return {}
    return masks if found else {}


def kind(site: str) -> str:
    """``encoder.3.self.heads`` is of the kind ``heads``."""
    return site.rsplit(".", 1)[-1]


def jaccard(one: Keep, other: Keep) -> float | None:
    """Size of the intersection over size of the union; None where both are empty."""
    either = np.count_nonzero(one.mask | other.mask)
    return np.count_nonzero(one.mask & other.mask) / either if either else None


def chance(one: Keep, other: Keep) -> float:
    """What `jaccard` gives for random choices that keep as many in each site (large sites)."""
    both = one.counts * other.counts / one.sizes
    either = np.sum(one.counts + other.counts - both)
    return float(np.sum(both) / either) if either else 0.0


def overlaps(gathered: Sequence[Cell], main: Callable[[Cell], bool]) -> list[Overlap]:
    """Matrices of every backbone and ratio of the main method where something was kept."""
    groups: dict[tuple[str, float], list[Cell]] = defaultdict(list)
    for cell in gathered:
        if main(cell) and cell.setting.ratio > 0 and not cell.is_sample:
            groups[cell.setting.backbone, cell.setting.ratio].append(cell)
    return [
        matrix
        for (backbone, ratio), cells in groups.items()
        for matrix in _matrices(backbone, ratio, cells)
    ]


def _matrices(backbone: str, ratio: float, cells: Sequence[Cell]) -> list[Overlap]:
    """One matrix per kind of neuron: a layer has hundreds of FFN units and a dozen heads."""
    keeps: dict[str, dict[str, list[Keep]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        for run in cell.runs:
            everything = kept(run)
            for name in set(map(kind, everything)):
                part = {site: mask for site, mask in everything.items() if kind(site) == name}
                keeps[name][cell.setting.task].append(Keep.of(part))
    found = []
    for name, tasks in sorted(keeps.items()):
        observed, expected = {}, {}
        for a, b in combinations_with_replacement(sorted(tasks), 2):
            pairs = _pairs(tasks[a], tasks[b], same=a == b)
            value = stat(jaccard(*pair) for pair in pairs)
            if value:
                observed[a, b] = value
                expected[a, b] = sum(chance(*pair) for pair in pairs) / len(pairs)
        if any(a != b for a, b in observed):
            found.append(Overlap(backbone, ratio, name, sorted(tasks), observed, expected))
    return found


def _pairs(one: Sequence[Keep], other: Sequence[Keep], same: bool) -> list[tuple[Keep, Keep]]:
    every = ((i, j) for i in range(len(one)) for j in range(len(other)))
    pairs = [(one[i], other[j]) for i, j in every if not same or i < j]
    return [pair for pair in pairs if np.array_equal(pair[0].sizes, pair[1].sizes)]
