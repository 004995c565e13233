"""The top of the page of ablations: how the default recipe does, and every option in one line."""

from collections.abc import Sequence

from skip_exp.report import tables
from skip_exp.report.contrasts import Contrast, Split, Study
from skip_exp.report.paired import FEW, Difference
from skip_exp.report.screens import PHASES
from skip_exp.report.text import percent

BARE = "†"
PHASE = {"pruned": "before", "final": "after"}  # re-tuning


def overview(studies: Sequence[Study]) -> list[str]:
    """Two tables with a line on each; nothing where there are no results."""
    recipe, options = default_rows(studies), option_lines(studies)
    parts = ["## In short"] if recipe or options else []
    if recipe:
        told = (
            "The default recipe after re-tuning, from the section with most pairs"
            f" ({BARE}: see below):"
        )
        parts += [told, tables.markdown([_recipe_line(row) for row in recipe])]
    if options:
        told = (
            "Every option against the default, or what its section names instead, points on select"
            f" before and after re-tuning, by ratio; in brackets: under {FEW} pairs, no verdict."
            " Means over different pairs do not compare between lines."
        )
        parts += [told, tables.markdown(options)]
    return parts


def default_rows(studies: Sequence[Study]) -> list[Contrast]:
    """The default's final results at every ratio above 0, each from where it has most pairs."""
    best: dict[float, Contrast] = {}
    for each in studies:
        for row in each.rows if each.screen.is_default else ():
            known = best.get(row.ratio)
            told = row.is_reference and row.phase == "final" and row.ratio and row.n
            if told and (known is None or row.n > known.n):
                best[row.ratio] = row
    return [best[ratio] for ratio in sorted(best)]


def _recipe_line(row: Contrast) -> dict[str, str]:
    select, validation = row.splits["select"], row.splits["validation"]
    return {
        "ratio": f"{row.ratio:g}",
        "pairs": str(row.n),
        "select": percent(select.score),
        "drop": drop(row, select),
        "val": percent(validation.score),
        "val drop": drop(row, validation),
        "speed-up": tables.speed(row.cell),
    }


def drop(row: Contrast, split: Split | None) -> str:
    """Points, marked where a dense_continued to be measured against is missing."""
    return "-" if split is None else percent(split.drop) + (f" {BARE}" if row.bare else "")


def option_lines(studies: Sequence[Study]) -> list[dict[str, str]]:
    """One line per option with a difference to tell; columns: phase and ratio."""
    lines = []
    ratios = sorted({row.ratio for each in studies for row in each.rows})
    for each in studies:
        for option in each.screen.options:
            rows = {
                (row.phase, row.ratio): split.difference
                for row in each.rows
                if row.option is option and (split := row.splits.get("select"))
            }
            if any(rows.values()):
                line = {"section": title(each), "option": option.label}
                for phase in PHASES:
                    for ratio in ratios:
                        line[f"{PHASE[phase]}, {ratio:g}"] = short(rows.get((phase, ratio)))
                lines.append(line)
    columns = [key for key in lines[0] if any(line[key] != "-" for line in lines)] if lines else []
    return [{key: line[key] for key in columns} for line in lines]


def title(each: Study) -> str:
    """With what the section's options are compared with, where that is not the default."""
    screen = each.screen
    other = "" if screen.is_default else f" (against {screen.reference.label})"
    return f"{screen.title}{other}"


def short(found: Difference | None) -> str:
    """``worse -3.1``, ``tie +0.2``, ``(+1.0)`` for few pairs, ``-`` for none."""
    if found is None:
        return "-"
    mean = f"{100 * found.mean:+.1f}"
    return f"({mean})" if found.interval is None else f"{found.verdict} {mean}"
