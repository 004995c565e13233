"""The figures of one ablation: per ratio and phase every option against the default."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from skip_exp.report.cells import chance, without
from skip_exp.report.screens import CONTINUED, PAIR, PLACE, Screen

SPLITS = {"select": "select/dense", "validation": "metric/dense"}  # split to its dense score
ROW = ["ratio", "phase", "option"]

FEW = 5  # below this many pairs there is no verdict
CONFIDENCE = 0.95
RESAMPLES = 9999
ABOUT = (
    f"{100 * CONFIDENCE:.0f} % percentile bootstrap of the mean over the pairs"
    f" ({RESAMPLES} resamples, fixed random state)"
)


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences with its confidence interval; without one for few pairs."""

    n: int
    mean: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, ``tie`` where the interval holds 0, or that pairs are too few."""
        if self.interval is None:
            return f"none: under {FEW} pairs"
        low, high = self.interval
        if low <= 0 <= high:
            return "tie"
        return "better" if low > 0 else "worse"


@dataclass(frozen=True)
class Study:
    """What one section shows."""

    screen: Screen
    # Per row of `Screen.points`: section (title), is_default (as of the screen), n (pairs with the
    # default; of the default its results), bare (of them final and without a dense_continued to be
    # measured against), and, NaN without a pair, speed (mean, std), contended, and per split score,
    # drop (means over the pairs, fractions) and difference (`Difference` to the default).
    rows: pd.DataFrame
    chance: pd.DataFrame  # by PLACE: those at chance, left out of every mean; see `cells.chance`
    expected: int  # pairs that are not at chance
    used: pd.DataFrame  # all results of the section, each job once
    base: pd.DataFrame  # the default's final ones by PAIR, with what they are measured against

    @property
    def compares(self) -> bool:
        """Whether any option has a result beside the default's."""
        return bool(((self.rows["n"] > 0) & ~self.rows["is_reference"]).any())


def study(screen: Screen, scored: pd.DataFrame) -> Study:
    """All rows of an ablation, and the results they are made of; ``scored``: of `screens`."""
    scored = scored.merge(screen.pairs, on=PAIR)
    continued = scored[scored["phase"] == CONTINUED]
    every = screen.points.merge(scored, on=["ratio", "phase", "identity"])
    runs = _latest(every)
    at_chance = _at_chance(runs)
    pairs = without(screen.pairs, at_chance.reset_index(), PLACE)
    runs = pairs.merge(runs, on=PAIR)  # in the order of the pairs: so the bootstrap is the same
    finals = runs[runs["is_reference"] & (runs["phase"] == "final")]
    finals = finals.drop_duplicates(PAIR, keep="last")
    finals = finals.assign(**{CONTINUED: screen.points[CONTINUED].iloc[0]})
    used = continued[continued["identity"].isin(screen.points[CONTINUED])]
    rows = screen.points.merge(_figures(_against(runs, continued)), how="left", on=ROW)
    rows[["n", "bare"]] = rows[["n", "bare"]].fillna(0).astype(int)
    against = "" if screen.is_default else f" (against {screen.reference})"
    rows = rows.assign(section=screen.title + against, is_default=screen.is_default)
    return Study(
        screen=screen,
        rows=rows,
        chance=at_chance,
        expected=len(pairs),
        used=pd.concat([every, used] if len(every) else [every]).drop_duplicates("job_id"),
        base=_against(finals, continued),
    )


def _latest(runs: pd.DataFrame) -> pd.DataFrame:
    """Of repeated runs the last, with the last quiet timing: screens are not timed."""
    point = [*ROW, *PAIR]
    last = runs.drop_duplicates(point, keep="last").drop(columns="latency/speedup")
    quiet = runs.dropna(subset=["latency/speedup"]).drop_duplicates(point, keep="last")
    last = last.merge(quiet[[*point, "latency/speedup"]], how="left", on=point)
    return last.assign(contended=last["contended"] & last["latency/speedup"].isna())


def _at_chance(runs: pd.DataFrame) -> pd.DataFrame:
    """Places whose dense is at chance: the default's dense or, where it has no result, any."""
    reference = runs[runs["is_reference"]]
    judged = pd.concat([reference, without(runs, reference, PLACE)])
    judged = chance(judged.drop_duplicates(PAIR, keep="last"), PLACE)
    return judged[judged["at chance"]]


def _against(runs: pd.DataFrame, continued: pd.DataFrame) -> pd.DataFrame:
    """The runs that have all scores, with ``again/<split>``, ``base/<split>`` and ``better``.

    Base is dense before re-tuning; after it the better of dense and dense_continued (``again``).
    Which is better is decided per task and backbone by the means on ``select`` over the seeds that
    have both: per seed, the maximum of two noisy scores would be too high.
    """
    again = continued.drop_duplicates(["identity", *PAIR], keep="last").dropna(subset=list(SPLITS))
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


def _figures(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the pairs of each row, columns as of `Study.rows`."""
    reference = runs.loc[runs["is_reference"], ["ratio", "phase", *PAIR, *SPLITS]]
    pairs = runs.merge(reference, on=["ratio", "phase", *PAIR], suffixes=("", " of default"))
    for split in SPLITS:
        pairs[f"{split} drop"] = pairs[f"base/{split}"] - pairs[split]
        pairs[f"{split} difference"] = pairs[split] - pairs[f"{split} of default"]
    pairs["bare"] = (pairs["phase"] == "final") & pairs["again/select"].isna()
    groups = pairs.groupby(ROW)
    # Every timing disturbed, where there is one: `_latest` leaves the flag where no speed is known.
    figures = {
        "n": groups.size(),
        "bare": groups["bare"].sum(),
        "speed": groups["latency/speedup"].mean(),
        "speed std": groups["latency/speedup"].std(),
        "contended": groups["contended"].any() & groups["latency/speedup"].count().eq(0),
    }
    for split in SPLITS:
        values = groups[f"{split} difference"].agg(list)
        figures |= {split: groups[split].mean(), f"{split} drop": groups[f"{split} drop"].mean()}
        figures[f"{split} difference"] = values.map(difference).where(~groups["is_reference"].any())
    return pd.DataFrame(figures).reset_index()


def difference(values: Sequence[float]) -> Difference | None:
    """Of the differences option - default, one per pair; None for no pairs.

    The percentile method, not BCa: that one is undefined where all differences are equal.
    """
    if not values:
        return None
    interval = None
    if len(values) >= FEW:
        bounds = bootstrap(
            (np.asarray(values, dtype=float),),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        interval = float(bounds.low), float(bounds.high)
    return Difference(len(values), float(np.mean(values)), interval)
