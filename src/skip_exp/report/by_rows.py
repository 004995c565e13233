"""Two models of one task, compared on the same validation rows, without torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from skip_exp.data.scores import Labels, interval, resample
from skip_exp.results import PREDICTIONS


class RowTest(NamedTuple):
    """A difference over rows: its bootstrap interval, and McNemar's p, NaN where it has none."""

    low: float
    high: float
    p: float


def compare_rows(
    baselines: Sequence[str], options: Sequence[str], metric: str, confidence: float
) -> RowTest | None:
    """Resample the validation rows of pairs of jobs, one pair per seed; seeds are averaged.

    Example:
        >>> compare_rows(["a/result.json"], ["b/result.json"], "accuracy", 0.95)
        RowTest(low=-0.004, high=0.021, p=0.22)

    Args:
        baselines, options: paths of the results.

    Returns:
        None where a job's predictions are missing, or the rows are not the same.
    """
    tables = [_read(path) for path in (*baselines, *options)]
    found = [table for table in tables if table is not None]
    if len(found) < len(tables):
        return None
    true = found[0]["label"].to_numpy()
    if len(true) < 2 or any(not np.array_equal(true, each["label"]) for each in found):
        return None
    answers = [table["predicted"].to_numpy() for table in found]
    first, second = answers[: len(baselines)], answers[len(baselines) :]
    low, high = bootstrap(true, first, second, metric, confidence)
    p = mcnemar(true, *answers) if metric == "accuracy" and len(answers) == 2 else np.nan
    return RowTest(low, high, p)


def score_interval(path: str, metric: str) -> tuple[float, float]:
    """The 95 % interval of a job's validation score over its rows; NaN without predictions."""
    table = _read(path)
    if table is None:
        return np.nan, np.nan
    true, predicted = table["label"].to_numpy(), table["predicted"].to_numpy()
    (draws,) = resample(metric, [predicted], true, 1 + max(true.max(), predicted.max()))
    return interval(draws)


def _read(path: str) -> pd.DataFrame | None:
    """The predictions beside a result; None where there are none that can be read."""
    try:
        table = pd.read_csv(Path(path).with_name(PREDICTIONS)) if path else None
    except (OSError, ValueError, EOFError):
        return None
    # Those of several labels per text have no probability.
    is_whole = table is not None and {"label", "predicted", "probability"} <= {*table}
    return table if is_whole else None


def mcnemar(true: Labels, baseline: Labels, option: Labels) -> float:
    """The p-value of McNemar's exact test, on the rows that only one of both has right."""
    only_option = int(((option == true) & (baseline != true)).sum())
    only_baseline = int(((baseline == true) & (option != true)).sum())
    if only_option + only_baseline == 0:
        return 1.0
    return float(stats.binomtest(only_option, only_option + only_baseline).pvalue)


def bootstrap(
    true: Labels,
    baselines: Sequence[Labels],
    options: Sequence[Labels],
    metric: str,
    confidence: float,
) -> tuple[float, float]:
    """The percentile interval of the mean difference over resampled rows, the same in all jobs."""
    answers = [*baselines, *options]
    classes = 1 + max(int(each.max()) for each in (true, *answers))
    draws = resample(metric, answers, true, classes)
    difference = draws[len(baselines) :].mean(0) - draws[: len(baselines)].mean(0)
    return interval(difference, confidence)
