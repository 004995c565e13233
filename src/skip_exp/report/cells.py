"""Cells of a report: the results of one setting, gathered over seeds."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

from skip_exp.report.text import Found

# Config keys that name the setting in columns of their own, or that do not change the numbers.
_OWN = {"seed", "output_dir", "debug", "prune.ratio", "attribution._target_"}
_OWN_GROUPS = {"task", "backbone", "logger", "cache", "sweep"}
# Where one of these is set, each job looked for a ratio of its own.
_GOALS = {"prune.max_drop", "prune.target_speedup"}
FOUND = -1.0  # ratio of a setting whose jobs looked for it: it differs from seed to seed
_OWN_PAIRS = {"data.source", "data.dir", "trainer.progress", "trainer.accelerator"}


class Setting(NamedTuple):
    """What makes two results comparable up to their seed."""

    task: str
    backbone: str
    attribution: str
    variant: str  # the config values that differ within task, backbone and attribution; "" if none
    ratio: float  # asked for, or FOUND

    @property
    def ratio_text(self) -> str:
        return "found" if self.ratio == FOUND else f"{self.ratio:g}"


@dataclass(frozen=True)
class Stat:
    mean: float
    std: float | None  # of the sample; None for a single value
    n: int


@dataclass(frozen=True)
class Cell:
    """One setting; rows on generated data and on real data are different cells."""

    setting: Setting
    is_sample: bool
    runs: list[Found] = field(default_factory=list)  # finished, one per seed
    failed: list[Found] = field(default_factory=list)  # with no finished run of the same seed

    @property
    def metric(self) -> str:
        names = [(run.get("metric") or {}).get("name") for run in self.runs]
        return next((name for name in names if name), "-")

    def stat(self, group: str, name: str) -> Stat | None:
        """Mean and deviation of ``result[group][name]`` over the runs that have it."""
        return stat((run.get(group) or {}).get(name) for run in self.runs)

    def speedup(self) -> Stat | None:
        """Over the timings taken on a quiet machine."""
        latencies = [run.get("latency") or {} for run in self.runs]
        return stat(each.get("speedup") for each in latencies if not each.get("contended"))

    @property
    def contended(self) -> bool:
        """Whether every timing of the cell was disturbed."""
        timed = [run["latency"] for run in self.runs if run.get("latency")]
        return bool(timed) and all(each.get("contended") for each in timed)


def stat(values: Iterable[float | None]) -> Stat | None:
    known = [float(value) for value in values if value is not None]
    if not known:
        return None
    std = statistics.stdev(known) if len(known) > 1 else None
    return Stat(statistics.fmean(known), std, len(known))


def comparable(config: Mapping[str, Any]) -> dict[str, str]:
    """The config values that can make two results differ, seed aside: dotted key to text."""
    flat: dict[str, str] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                add(f"{prefix}.{key}" if prefix else str(key), item)
        elif prefix not in _OWN | _OWN_PAIRS and prefix.split(".")[0] not in _OWN_GROUPS:
            flat[prefix] = "+".join(map(str, value)) if isinstance(value, list) else str(value)

    add("", config)
    return flat


def variants(found: Sequence[Found]) -> list[str]:
    """For each result the values that not all results of its task, backbone and method share.

    What a ratio was looked for by is always named.
    """
    flat = [comparable(result.get("config") or {}) for result in found]
    groups = [(r.get("task"), r.get("backbone"), r.get("attribution")) for r in found]
    seen: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for group, values in zip(groups, flat, strict=True):
        for key, value in values.items():
            seen[*group, key].add(value)
    return [
        ", ".join(
            f"{key}={value}"
            for key, value in values.items()
            if len(seen[*group, key]) > 1 or (key in _GOALS and value != "None")
        )
        for group, values in zip(groups, flat, strict=True)
    ]


@dataclass(frozen=True)
class Gathered:
    """All that a report shows."""

    cells: list[Cell]
    failed: list[Found]  # see `failures`
    missing: list[tuple[Setting, Any]]  # see `missing`


def gather(found: Sequence[Found]) -> Gathered:
    names = variants(found)
    grouped = cells(found, names)
    return Gathered(grouped, failures(found, grouped), missing(found, names))


def cells(found: Sequence[Found], names: Sequence[str] | None = None) -> list[Cell]:
    """Group results into cells, sorted; of repeated runs the latest finished one counts.

    Results that failed before their task, backbone and ratio were known belong to no cell.
    """
    done: dict[tuple[Setting, bool], dict[Any, Found]] = defaultdict(dict)
    failed: dict[Setting, dict[Any, Found]] = defaultdict(dict)
    names = variants(found) if names is None else names
    pairs = sorted(zip(found, names, strict=True), key=lambda pair: when(pair[0]))
    for result, variant in pairs:
        setting = _setting(result, variant)
        if setting is None:
            continue
        if result.get("status") == "done":
            done[setting, bool(result.get("data_is_sample"))][result.get("seed")] = result
        else:
            failed[setting][result.get("seed")] = result
    grouped = {key: Cell(*key, runs=list(runs.values())) for key, runs in done.items()}
    for setting, runs in failed.items():
        mine = [cell for key, cell in grouped.items() if key[0] == setting]
        finished = {run.get("seed") for cell in mine for run in cell.runs}
        left = [run for seed, run in runs.items() if seed not in finished]
        if left and not mine:
            key = setting, bool(left[0].get("data_is_sample"))
            mine = [grouped.setdefault(key, Cell(*key))]
        if left:
            mine[0].failed.extend(left)
    return [grouped[key] for key in sorted(grouped)]


def when(result: Found) -> tuple[str, bool, bool, str]:
    """Order of repeated runs. A reused result is a copy: the original may have been timed anew."""
    quiet = not (result.get("latency") or {}).get("contended")
    original = not result.get("reused")
    return str(result.get("finished") or ""), quiet, original, str(result.get("path") or "")


def _setting(result: Found, variant: str) -> Setting | None:
    names = [result.get(name) for name in ("task", "backbone", "attribution")]
    ratio = FOUND if _looked_for(result) else result.get("ratio")
    if names[0] is None or names[1] is None or ratio is None:
        return None
    task, backbone, attribution = (str(name or "-") for name in names)
    return Setting(task, backbone, attribution, variant, float(ratio))


def _looked_for(result: Found) -> bool:
    prune = (result.get("config") or {}).get("prune") or {}
    return any(prune.get(key.rpartition(".")[2]) is not None for key in _GOALS)


def failures(found: Sequence[Found], gathered: Sequence[Cell]) -> list[Found]:
    """Failed results that no finished run has made up for."""
    placed = [run for cell in gathered for run in cell.failed]
    homeless = [
        result
        for result in found
        if result.get("status") != "done" and _setting(result, "") is None
    ]
    return placed + homeless


def missing(found: Sequence[Found], names: Sequence[str]) -> list[tuple[Setting, Any]]:
    """Settings and seeds that a sweep spans but no result covers.

    A sweep is a grid: what it spans is the product of the values its results show.
    """
    grids: dict[str, list[tuple[Setting, Any]]] = defaultdict(list)
    have = set()
    for result, variant in zip(found, names, strict=True):
        setting = _setting(result, variant)
        if setting is None:
            continue
        have.add((setting, result.get("seed")))
        if result.get("sweep"):
            grids[str(result["sweep"])].append((setting, result.get("seed")))
    absent = {point for points in grids.values() for point in _span(points) if point not in have}
    return sorted(absent, key=lambda point: (point[0], str(point[1])))


def _span(points: Sequence[tuple[Setting, Any]]) -> Iterable[tuple[Setting, Any]]:
    tasks, backbones, ratios, seeds = (
        dict.fromkeys(get(point) for point in points)
        for get in (
            lambda point: point[0].task,
            lambda point: point[0].backbone,
            lambda point: point[0].ratio,
            lambda point: point[1],
        )
    )
    methods = dict.fromkeys((s.attribution, s.variant, s.ratio == FOUND) for s, _ in points)
    for task, backbone, (attribution, variant, looked), ratio, seed in product(
        tasks, backbones, methods, ratios, seeds
    ):
        if looked == (ratio == FOUND):
            yield Setting(task, backbone, attribution, variant, ratio), seed


def at_chance(cell: Cell) -> bool | None:
    """Whether dense is not above the majority class by two standard errors; None if unknown.

    Judged on the main metric where its error at chance is known (accuracy; Matthews, whose
    majority is 0 with error 1/sqrt(n)), else on accuracy. Seeds share their validation rows,
    so they do not make the error smaller.
    """
    rows = next((run["n_eval"] for run in cell.runs if run.get("n_eval")), None)
    name = cell.metric if cell.metric == "matthews" else "accuracy"
    dense = stat(_dense(run, name) for run in cell.runs)
    if rows is None or dense is None:
        return None
    if name == "matthews":
        return dense.mean <= 2 / math.sqrt(rows)
    chance = majority(cell, name)
    if chance is None:
        return None
    return dense.mean <= chance + 2 * math.sqrt(chance * (1 - chance) / rows)


def _dense(run: Found, name: str) -> float | None:
    main = run.get("metric") or {}
    scores = main if main.get("name") == name else (run.get("metrics") or {}).get(name) or {}
    return scores.get("dense")


def majority(cell: Cell, name: str) -> float | None:
    """Score of always answering the majority class."""
    for run in cell.runs:
        value = (run.get("majority") or {}).get(name)
        if value is not None:
            return float(value)
    return 0.0 if name == "matthews" and cell.runs else None


def main_method(gathered: Sequence[Cell]) -> Callable[[Cell], bool]:
    """Predicate of the method a report is about: not the control, and with the most runs."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for cell in gathered:
        if cell.setting.attribution != "random":
            counts[cell.setting.attribution, cell.setting.variant] += len(cell.runs)
    best = max(counts, key=lambda method: counts[method], default=None)
    return lambda cell: (cell.setting.attribution, cell.setting.variant) == best


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Pareto front, both coordinates to be large, in order of the first."""
    best, kept = -math.inf, []
    for x, y in sorted(set(points), reverse=True):
        if y > best:
            best = y
            kept.append((x, y))
    return kept[::-1]
