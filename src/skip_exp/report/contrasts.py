"""The figures of one ablation: per ratio and phase every option against the default."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import pandas as pd

from skip_exp.report.cells import chance, without
from skip_exp.report.intervals import Difference, correct, difference
from skip_exp.report.screens import CONTINUED, PAIR, PLACE, Screen

SPLITS = {"select": "select/dense", "validation": "metric/dense"}  # split to its dense score
CROSSFIT = {"select": "crossfit", "select/dense": "select_crossfit/dense"}  # in whose place
ROW = ["ratio", "phase", "option"]


@dataclass(frozen=True)
class Study:
    """What one section shows."""

    screen: Screen
    # Per row of `Screen.points`: section (title), is_default (as of the screen), n (pairs with the
    # default; of the default its results), bare (of them final and without a dense_continued to be
    # measured against), and, NaN without a pair, speed (mean, std), contended, and per split score,
    # drop (means over the tasks of those over their pairs, fractions) and difference (`Difference`
    # to the default).
    rows: pd.DataFrame
    chance: pd.DataFrame  # by PLACE: those at chance, left out of every mean; see `cells.chance`
    expected: int  # pairs that are not at chance
    used: pd.DataFrame  # all results of the section, each job once
    base: pd.DataFrame  # the default's final ones by PAIR, with what they are measured against
    crossfit: bool  # whether select is cross-fitted: all results that count must tell it

    @property
    def compares(self) -> bool:
        """Whether any option has a result beside the default's."""
        return bool(((self.rows["n"] > 0) & ~self.rows["is_reference"]).any())


def study(screen: Screen, scored: pd.DataFrame) -> Study:
    """All rows of an ablation, and the results they are made of; ``scored``: of `screens`."""
    scored = scored.merge(screen.pairs, on=PAIR)
    continued = scored[scored["phase"] == CONTINUED]
    used = continued[continued["identity"].isin(screen.points[CONTINUED])]
    every = screen.points.merge(scored, on=["ratio", "phase", "identity"])
    runs = _latest(every)
    crossfit = has_crossfit(pd.concat([runs, _last(used)]))
    if crossfit:
        runs, continued = crossfitted(runs), crossfitted(continued)
    at_chance = _at_chance(runs)
    pairs = without(screen.pairs, at_chance.reset_index(), PLACE)
    runs = pairs.merge(runs, on=PAIR)  # in the order of the pairs: so the bootstrap is the same
    finals = runs[runs["is_reference"] & (runs["phase"] == "final")]
    finals = finals.drop_duplicates(PAIR, keep="last")
    finals = finals.assign(**{CONTINUED: screen.points[CONTINUED].iloc[0]})
    rows = screen.points.merge(figures(against(runs, continued)), how="left", on=ROW)
    rows[["n", "bare"]] = rows[["n", "bare"]].fillna(0).astype(int)
    other = "" if screen.is_default else f" (against {screen.reference})"
    rows = rows.assign(section=screen.title + other, is_default=screen.is_default)
    return Study(
        screen=screen,
        rows=rows,
        chance=at_chance,
        expected=len(pairs),
        used=pd.concat([every, used] if len(every) else [every]).drop_duplicates("job_id"),
        base=against(finals, continued),
        crossfit=crossfit,
    )


def corrected(studies: Sequence[Study]) -> list[Study]:
    """The same with all their differences on select corrected together, see `intervals.correct`."""
    every = [of.rows["select difference"] for of in studies]
    found = iter(correct([d if isinstance(d, Difference) else None for of in every for d in of]))
    return [
        replace(of, rows=of.rows.assign(**{"select difference": list(islice(found, len(of.rows)))}))
        for of in studies
    ]


def _latest(runs: pd.DataFrame) -> pd.DataFrame:
    """Of repeated runs the last, with the last quiet timing: screens are not timed."""
    point = [*ROW, *PAIR]
    last = runs.drop_duplicates(point, keep="last").drop(columns="latency/speedup")
    quiet = runs.dropna(subset=["latency/speedup"]).drop_duplicates(point, keep="last")
    last = last.merge(quiet[[*point, "latency/speedup"]], how="left", on=point)
    return last.assign(contended=last["contended"] & last["latency/speedup"].isna())


def has_crossfit(runs: pd.DataFrame) -> bool:
    """Whether all of them tell it: next to one that does not, it would be too low."""
    return bool(len(runs) and runs[list(CROSSFIT.values())].notna().all(axis=None))


def crossfitted(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with cross-fitted scores as their scores on select."""
    return runs.assign(**{whole: runs[crossfit] for whole, crossfit in CROSSFIT.items()})


def _last(continued: pd.DataFrame) -> pd.DataFrame:
    """Of repeated runs the last."""
    return continued.drop_duplicates(["identity", *PAIR], keep="last")


def _at_chance(runs: pd.DataFrame) -> pd.DataFrame:
    """Places whose dense is at chance: the default's dense or, where it has no result, any."""
    reference = runs[runs["is_reference"]]
    judged = pd.concat([reference, without(runs, reference, PLACE)])
    judged = chance(judged.drop_duplicates(PAIR, keep="last"), PLACE)
    return judged[judged["at chance"]]


def against(runs: pd.DataFrame, continued: pd.DataFrame) -> pd.DataFrame:
    """The runs that have all scores, with ``again/<split>``, ``base/<split>`` and ``better``.

    Base is dense before re-tuning; after it the better of dense and dense_continued (``again``).
    Which is better is decided per task and backbone by the means on ``select`` over the seeds that
    have both: per seed, the maximum of two noisy scores would be too high.
    """
    again = _last(continued).dropna(subset=list(SPLITS))
    again = again[["identity", *PAIR, *SPLITS]].rename(columns={"identity": CONTINUED})
    again = again.rename(columns={split: f"again/{split}" for split in SPLITS})
    runs = runs.dropna(subset=list(SPLITS.values()))
    runs = runs.merge(again, how="left", on=[CONTINUED, *PAIR])
    names = [f"again/{split}" for split in SPLITS]
    runs[names] = runs[names].where(runs["phase"] == "final")
    gain = runs["again/select"] - runs["select/dense"]
    mean = gain.groupby([runs[name] for name in (*ROW, *PLACE)]).transform("mean")
    runs = runs.assign(better=(mean > 0) & gain.notna())
    for split, dense in SPLITS.items():
        runs[f"base/{split}"] = runs[f"again/{split}"].where(runs["better"], runs[dense])
    return runs.dropna(subset=list(SPLITS))


def figures(runs: pd.DataFrame) -> pd.DataFrame:
    """Figures of each row, columns as of `Study.rows`."""
    reference = runs.loc[runs["is_reference"], ["ratio", "phase", *PAIR, *SPLITS]]
    pairs = runs.merge(reference, on=["ratio", "phase", *PAIR], suffixes=("", " of default"))
    for split in SPLITS:
        pairs[f"{split} drop"] = pairs[f"base/{split}"] - pairs[split]
        pairs[f"{split} difference"] = pairs[split] - pairs[f"{split} of default"]
    pairs["bare"] = (pairs["phase"] == "final") & pairs["again/select"].isna()
    groups = pairs.groupby(ROW)
    # Every timing disturbed, where there is one: `_latest` leaves the flag where no speed is known.
    counts = {
        "n": groups.size(),
        "bare": groups["bare"].sum(),
        "speed": groups["latency/speedup"].mean(),
        "speed std": groups["latency/speedup"].std(),
        "contended": groups["contended"].any() & groups["latency/speedup"].count().eq(0),
    }
    found = pd.DataFrame(counts)
    for split in SPLITS:
        scores = [split, f"{split} drop"]
        by_task = pairs.groupby([*ROW, "task"])[scores].mean()
        found = found.join(by_task.groupby(ROW).mean())
        differences = [
            None if of["is_reference"].any() else difference(of[f"{split} difference"], of["task"])
            for _, of in groups
        ]
        found[f"{split} difference"] = pd.Series(differences, index=found.index, dtype=object)
    return found.reset_index()
