"""The default recipe against its opponents at the same size, from the compact rows of `recipes`."""

import pandas as pd

from skip_exp.report import contrasts
from skip_exp.report.recipes import AGAIN, DEFAULT
from skip_exp.report.screens import CONTINUED

DENSE = "the better of dense and dense_continued"  # the difference to it is the drop
AT = ["backbone", "ratio", "option"]
SLACK = 1.0  # percent of the block parameters: ratios are reached up to whole neurons
SCORES = {  # column that `contrasts` reads, a fraction: column of the compact rows, in percent
    **{"select": "select", "crossfit": "select_crossfit", "validation": "final"},
    **{"select/dense": "dense_select", "select_crossfit/dense": "dense_select_crossfit"},
    "metric/dense": "dense",
}


def figures(runs: pd.DataFrame) -> pd.DataFrame:
    """`contrasts.figures` by AT, and ``crossfit``: whether select is; of compact rows."""
    found = [_of_backbone(_scores(of)) for _, of in runs.groupby("backbone")]
    return pd.concat([pd.DataFrame(columns=AT), *found]).set_index(AT)


def _scores(runs: pd.DataFrame) -> pd.DataFrame:
    """Compact rows with the columns that `contrasts` reads; fractions."""
    scores = {name: runs[column] / 100 for name, column in SCORES.items()}
    return runs.assign(
        **scores,
        phase="final",
        option=runs["recipe"],
        is_reference=runs["recipe"] == DEFAULT,
        identity=runs["epochs"].astype(str),
        contended=False,
        **{"latency/speedup": runs["speedup"]},
    )


def _of_backbone(runs: pd.DataFrame) -> pd.DataFrame:
    again = runs[runs["recipe"] == AGAIN]
    ours = _continued(runs[runs["is_reference"] & (runs["ratio"] > 0)], again)
    others = runs[~runs["recipe"].str.startswith(DEFAULT) & (runs["recipe"] != AGAIN)]
    every = [ours, *(opponents(others, ratio) for ratio in ours["ratio"].unique())]
    against, crossfit = pd.concat(every), False
    if crossfit := contrasts.has_crossfit(pd.concat([against, again])):
        against, again = contrasts.crossfitted(against), contrasts.crossfitted(again)
    compared = contrasts.against(against, again)
    dense = compared[compared["is_reference"]]
    dense = dense.assign(
        option=DENSE,
        is_reference=False,
        **{"latency/speedup": 1.0},
        **{split: dense[f"base/{split}"] for split in contrasts.SPLITS},
    )
    found = contrasts.figures(pd.concat([compared, dense]))
    return found.assign(backbone=runs["backbone"].iloc[0], crossfit=crossfit)


def _continued(ours: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """The default's rows with CONTINUED: the longest dense_continued, of those not longer."""
    job = ["task", "seed", "epochs"]
    pairs = ours[job].drop_duplicates().merge(again[job], on=job[:2], suffixes=("", " again"))
    pairs = pairs[pairs["epochs again"] <= pairs["epochs"]]
    longest = pairs.groupby(job)["epochs again"].max().astype(str).rename(CONTINUED)
    return ours.merge(longest.reset_index(), how="left", on=job)


def opponents(others: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """What the default is compared with at ``ratio``.

    A recipe that is at 0 only (fine-tuning, a smaller dense model) counts everywhere, at the
    largest size removed that is not above the ratio: it keeps as much or more. Of a recipe's
    settings the best on select counts (then on crossfit), per task, by the seeds that have most of
    them.
    """
    highest = others.groupby("recipe")["ratio"].transform("max")
    whole = others[(highest == 0) & (others["block_removed"] <= 100 * ratio + SLACK)]
    removed = whole["block_removed"]
    whole = whole[removed > removed.groupby(whole["recipe"]).transform("max") - SLACK]
    here = pd.concat([others[others["ratio"] == ratio], whole]).assign(ratio=ratio)
    tried = here.groupby(["recipe", "task", "seed"])["setting"].transform("size")
    most = tried.groupby([here["recipe"], here["task"]]).transform("max")
    identity = ["recipe", "task", "setting", "epochs"]
    best = (
        here[tried == most]
        .groupby(identity)[["select", "crossfit"]]
        .mean()
        .sort_values(["select", "crossfit"], kind="stable", na_position="first")
        .reset_index()
        .drop_duplicates(["recipe", "task"], keep="last")
    )
    return here.merge(best[identity], on=identity)
