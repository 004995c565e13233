"""The figures of one ablation: per ratio and phase every option against the default."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import NamedTuple

from skip_exp.report.cells import Cell, Setting, at_chance
from skip_exp.report.paired import Difference, difference
from skip_exp.report.screens import PHASES, Index, Option, Pair, Runs, Screen
from skip_exp.report.text import Found

SPLITS = {"select": "select", "validation": "metric"}  # split to result field
Scores = Mapping[Pair, Mapping[str, float]]  # by split
There = Mapping[tuple[str, float, str], Runs]  # by option, ratio and phase


class Place(NamedTuple):
    task: str
    backbone: str


@dataclass(frozen=True)
class Split:
    """One row's figures on one split, fractions; means over the pairs of the row."""

    score: float
    drop: float
    difference: Difference | None  # to the default; None for the default itself


@dataclass(frozen=True)
class Contrast:
    """One row: an option at a ratio, before or after re-tuning."""

    option: Option
    ratio: float
    phase: str
    is_reference: bool
    n: int  # pairs with the default; of the default its results
    bare: int  # of them final and without a dense_continued to be measured against
    splits: Mapping[str, Split]  # empty without a pair
    cell: Cell  # the row's results


@dataclass(frozen=True)
class Study:
    """What one section shows."""

    screen: Screen
    rows: list[Contrast]
    chance: dict[Place, Cell]  # left out of every mean
    expected: int  # pairs that are not at chance
    used: list[Found]
    base: "Base"  # of the default's final scores

    @property
    def compares(self) -> bool:
        """Whether any option has a result beside the default's."""
        return any(row.n and not row.is_reference for row in self.rows)


@dataclass(frozen=True)
class Base:
    """What final scores are measured against."""

    dense: Scores
    continued: Scores
    better: frozenset[Place]  # where dense_continued is the better one

    def score(self, pair: Pair) -> Mapping[str, float]:
        use = Place(*pair[:2]) in self.better and pair in self.continued
        return (self.continued if use else self.dense)[pair]


def study(screen: Screen, index: Index) -> Study:
    """All rows of an ablation, and the results they are made of."""
    there: There = {
        (option.label, ratio, phase): index.runs(option, phase, ratio, screen.pairs)
        for option in screen.options
        for ratio in screen.ratios
        for phase in PHASES
    }
    mine = screen.reference.label
    chance = _at_chance(
        [runs for key, runs in there.items() if key[0] == mine],
        [runs for key, runs in there.items() if key[0] != mine],
    )
    pairs = [pair for pair in screen.pairs if Place(*pair[:2]) not in chance]
    finals = {
        pair: run for ratio in screen.ratios for pair, run in there[mine, ratio, "final"].items()
    }
    continued = index.dense_continued(screen.reference, screen.ratios[0])
    base = base_of(_only(finals, pairs), "final", continued)
    rows = _rows(screen, index, there, pairs)
    return Study(screen, rows, chance, len(pairs), _used(screen, index), base)


def _used(screen: Screen, index: Index) -> list[Found]:
    """Every result of the screen's points, repeated ones too, and of their dense_continued."""
    points = product(screen.options, PHASES, screen.ratios)
    groups = [index.every(*point) for point in points]
    if any(pair in group for group in groups for pair in screen.pairs):
        keys = (key for option in screen.options for key in option.continued.values())
        continued = dict.fromkeys(keys)  # in order, once each
        groups += [index.continued.get(key, {}) for key in continued]
    return [run for group in groups for pair in screen.pairs for run in group.get(pair, [])]


def _rows(screen: Screen, index: Index, there: There, pairs: Sequence[Pair]) -> list[Contrast]:
    rows, first = [], screen.reference
    for ratio, phase in product(screen.ratios, PHASES):
        reference = _only(there[first.label, ratio, phase], pairs)
        for option in _in_order(screen, phase, ratio):
            runs = _only(there[option.label, ratio, phase], pairs)
            base = base_of(runs, phase, index.dense_continued(option, ratio))
            rows.append(_contrast(option, ratio, phase, runs, reference, base, option is first))
    return rows


def _in_order(screen: Screen, phase: str, ratio: float) -> list[Option]:
    """The default first, without options that this phase cannot tell from it."""
    first = screen.reference
    at = phase, ratio
    others = [o for o in screen.options if o.scores[at] != first.scores[at]]
    return [first, *others]


def _only(runs: Runs, pairs: Collection[Pair]) -> Runs:
    return {pair: runs[pair] for pair in pairs if pair in runs}


def scores(runs: Runs, phase: str) -> Scores:
    """Main metric on both splits; results that lack one are left out."""
    found = {}
    for pair, run in runs.items():
        values = {name: (run.get(group) or {}).get(phase) for name, group in SPLITS.items()}
        known = {name: float(value) for name, value in values.items() if value is not None}
        if len(known) == len(SPLITS):
            found[pair] = known
    return found


def base_of(runs: Runs, phase: str, continued: Runs) -> Base:
    """Before re-tuning dense; after it the better of dense and dense_continued.

    Which is better is decided per task and backbone by the means on ``select`` over the seeds that
    have both: per seed, the maximum of two noisy scores would be too high.
    """
    dense = scores(runs, "dense")
    if phase == "pruned":
        return Base(dense, {}, frozenset())
    again = scores(_only(continued, dense), "final")
    gains: dict[Place, list[float]] = defaultdict(list)
    for pair, score in again.items():
        gains[Place(*pair[:2])].append(score["select"] - dense[pair]["select"])
    better = frozenset(place for place, gain in gains.items() if fmean(gain) > 0)
    return Base(dense, again, better)


def _contrast(
    option: Option,
    ratio: float,
    phase: str,
    runs: Runs,
    reference: Runs,
    base: Base,
    is_reference: bool,
) -> Contrast:
    mine, other = scores(runs, phase), scores(reference, phase)
    pairs = [pair for pair in mine if pair in other and pair in base.dense]
    splits = {}
    for name in SPLITS if pairs else ():
        differences = [mine[pair][name] - other[pair][name] for pair in pairs]
        splits[name] = Split(
            score=fmean(mine[pair][name] for pair in pairs),
            drop=fmean(base.score(pair)[name] - mine[pair][name] for pair in pairs),
            difference=None if is_reference else difference(differences),
        )
    used = [runs[pair] for pair in pairs]
    cell = Cell(Setting("", "", "", "", ratio), False, used)
    bare = sum(pair not in base.continued for pair in pairs) if phase == "final" else 0
    return Contrast(option, ratio, phase, is_reference, len(pairs), bare, splits, cell)


def _at_chance(reference: Sequence[Runs], others: Sequence[Runs]) -> dict[Place, Cell]:
    """Places whose dense is at chance: the default's dense or, where it has no result, any."""
    runs_of: dict[Place, dict[int, Found]] = {}
    for groups in (reference, others):
        known = set(runs_of)
        for pair, run in (item for runs in groups for item in runs.items()):
            place = Place(*pair[:2])
            if place not in known:
                runs_of.setdefault(place, {})[pair.seed] = run
    cells = {
        place: Cell(Setting(*place, "", "", 0.0), False, list(runs.values()))
        for place, runs in sorted(runs_of.items())
    }
    return {place: cell for place, cell in cells.items() if at_chance(cell)}
