"""The top of the page of ablations: how the default recipe does, and every option in one line."""

from collections.abc import Sequence

import pandas as pd

from skip_exp.report.contrasts import Study
from skip_exp.report.paired import FEW, Difference
from skip_exp.report.screens import Screen
from skip_exp.report.tables import markdown, percent, speed

BARE = "†"
PHASE = {"pruned": "before", "final": "after"}  # re-tuning


def overview(studies: Sequence[Study]) -> list[str]:
    """Two tables with a line on each; nothing where there are no results."""
    recipe, options = recipe_lines(studies), option_lines(studies)
    parts = [] if recipe.empty and options.empty else ["## In short"]
    if not recipe.empty:
        text = (
            "The default recipe after re-tuning, from the section with most pairs"
            f" ({BARE}: see below):"
        )
        parts += [text, markdown(recipe)]
    if not options.empty:
        text = (
            "Every option against the default, or what its section names instead, points on select"
            f" before and after re-tuning, by ratio; in brackets: under {FEW} pairs, no verdict."
            " Means over different pairs do not compare between lines."
        )
        parts += [text, markdown(options)]
    return parts


def recipe_lines(studies: Sequence[Study]) -> pd.DataFrame:
    """The default's final results at every ratio above 0, each from where it has most pairs."""
    rows = pd.concat([study.rows.assign(default=study.screen.is_default) for study in studies])
    rows = rows[rows["default"] & rows["is_reference"] & (rows["phase"] == "final")]
    rows = rows[(rows["ratio"] > 0) & (rows["n"] > 0)]
    rows = rows.sort_values(["ratio", "n"], ascending=[True, False], kind="stable")
    if rows.empty:
        return pd.DataFrame()
    rows = rows.drop_duplicates("ratio")
    head = {"ratio": rows["ratio"].map("{:g}".format), "pairs": rows["n"].astype(str)}
    return pd.DataFrame({**head, **score_text(rows)})


def score_text(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores, drops and speed of rows of a study; drops are points.

    Marked where a dense_continued to be measured against is missing.
    """
    mark = (rows["bare"] > 0).map({True: f" {BARE}", False: ""})
    speeds = map(speed, rows["speed"], rows["contended"].eq(True), rows["speed std"])
    return pd.DataFrame(
        {
            "select": rows["select"].map(percent),
            "drop": rows["select drop"].map(percent) + mark,
            "val": rows["validation"].map(percent),
            "val drop": rows["validation drop"].map(percent) + mark,
            "speed-up": pd.Series(speeds, index=rows.index, dtype=object),
        }
    )


def option_lines(studies: Sequence[Study]) -> pd.DataFrame:
    """One line per option with a difference to tell; columns: phase and ratio."""
    rows = pd.concat(
        [study.rows.assign(section=option_title(study.screen)) for study in studies],
        ignore_index=True,
    )
    rows = rows[rows["select difference"].notna()]
    if rows.empty:
        return pd.DataFrame()
    rows["column"] = rows["phase"].map(PHASE) + rows["ratio"].map(", {:g}".format)
    rows["text"] = rows["select difference"].map(short)
    order = rows.sort_values(["phase", "ratio"], ascending=[False, True], kind="stable")
    lines = rows.pivot(index=["section", "option"], columns="column", values="text")
    lines = lines.reindex(rows.set_index(["section", "option"]).index.drop_duplicates())
    return lines[order["column"].drop_duplicates()].fillna("-").reset_index()


def option_title(screen: Screen) -> str:
    """With what the section's options are compared with, where that is not the default."""
    other = "" if screen.is_default else f" (against {screen.reference})"
    return f"{screen.title}{other}"


def short(difference: Difference) -> str:
    """``worse -3.1``, ``tie +0.2``; ``(+1.0)`` for few pairs."""
    mean = f"{100 * difference.mean:+.1f}"
    return f"({mean})" if difference.interval is None else f"{difference.verdict} {mean}"
