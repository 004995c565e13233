"""Two models of one task, compared on the same validation rows, without torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from skip_exp.results import PREDICTIONS

RESAMPLES = 1000  # of the bootstrap
Classes = NDArray[np.int64]  # an index per row [rows]


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


def _read(path: str) -> pd.DataFrame | None:
    """The predictions beside a result; None where there are none that can be read."""
    try:
        table = pd.read_csv(Path(path).with_name(PREDICTIONS)) if path else None
    except (OSError, ValueError, EOFError):
        return None
    is_whole = table is not None and {"label", "predicted"} <= {*table}
    return table if is_whole else None


def mcnemar(true: Classes, baseline: Classes, option: Classes) -> float:
    """The p-value of McNemar's exact test, on the rows that only one of both has right."""
    only_option = int(((option == true) & (baseline != true)).sum())
    only_baseline = int(((baseline == true) & (option != true)).sum())
    if only_option + only_baseline == 0:
        return 1.0
    return float(stats.binomtest(only_option, only_option + only_baseline).pvalue)


def bootstrap(
    true: Classes,
    baselines: Sequence[Classes],
    options: Sequence[Classes],
    metric: str,
    confidence: float,
) -> tuple[float, float]:
    """The percentile interval of the mean difference over resampled rows, the same in all jobs."""

    def difference(labels: Classes, *answers: Classes) -> float:
        scores = [score(labels, predicted, metric) for predicted in answers]
        return float(np.mean(scores[len(baselines) :]) - np.mean(scores[: len(baselines)]))

    found = stats.bootstrap(
        (true, *baselines, *options),
        difference,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def score(true: Classes, predicted: Classes, metric: str) -> float:
    """A metric of `data.metrics`, in numpy: it is computed some thousand times."""
    classes = 1 + max(int(true.max()), int(predicted.max()))
    counts = np.bincount(true * classes + predicted, minlength=classes**2)
    counts = counts.reshape(classes, classes).astype(float)
    rows, hits, support, answered = len(true), counts.diagonal(), counts.sum(1), counts.sum(0)
    if metric == "accuracy":
        return float(hits.sum() / rows)
    if metric == "matthews":
        spread = (rows**2 - (support**2).sum()) * (rows**2 - (answered**2).sum())
        covariance = hits.sum() * rows - (support * answered).sum()
        return float(covariance / np.sqrt(spread)) if spread else 0.0
    used = support + answered > 0
    f1 = 2 * hits[used] / (support + answered)[used]
    if metric == "f1_macro":
        return float(f1.mean())
    return float(f1[-1]) if classes == 2 else 0.0  # of label 1
