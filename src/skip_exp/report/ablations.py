"""``python -m skip_exp.report.ablations [FOLDER ...] [--config-dir DIR] [--out FILE]``.

Every ablation on one page: the package's and, with ``--config-dir``, those of a folder of your own.

A FOLDER may be a ``results.csv`` that a report wrote.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from skip_exp.errors import SkipError
from skip_exp.report import frame
from skip_exp.report.cells import backbone_notes
from skip_exp.report.contrasts import Study, corrected, study
from skip_exp.report.intervals import ABOUT, FEW, LIMITS, RATE, Difference
from skip_exp.report.reconstruction import provenance
from skip_exp.report.screens import check_folder, read_all, scored
from skip_exp.report.tables import markdown, percent, save, speed, spread

PHASE = {"pruned": "before", "final": "after"}  # re-tuning
BARE = "†"
TITLES = {"ablation_controls": "Default recipe against controls"}
READING = (
    "Written by `python -m skip_exp.report.ablations` from result files. Options of one factor are"
    " compared with the default over pairs of the same task, backbone and seed, everything else"
    " being equal; screens share the results whose settings are the same.",
    "Percent and points (100 x the task's main metric), means over the tasks of the means over"
    " their pairs; n: of the pairs that there could be. *pruned*: before re-tuning; *final*: after"
    " it. select: the selection slice, which alone is used to choose; val: the validation split,"
    " **not used to choose**.",
    "What picks epochs is not what compares options: dense and final, which keep their best epoch"
    " on select, are cross-fitted there (each half of the slice is scored at the epoch that the"
    " other half likes best; mean of the two). A section says so where results do not tell it.",
    "drop: before re-tuning against dense; after it against the better of dense and dense_continued"
    " (the same re-tuning with nothing cut; which is better is told by the means on select, per"
    f" task and backbone). {BARE}: some or all pairs have no dense_continued and are measured"
    " against dense.",
    f"difference: to the default, with its interval: {ABOUT}. {LIMITS}",
    "Verdict, on select: better or worse where the same resamples cross 0 rarely enough after"
    " correction for all comparisons of this page, so that of all such verdicts at most"
    f" {100 * RATE:.0f} % are expected to be false (Benjamini and Hochberg), else tie, even where"
    f" the interval leaves out 0; none under {FEW} pairs.",
    "At chance: dense is not above the majority class by two standard errors (validation split);"
    " such tasks are in no mean and no difference.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where there is nothing to read or the page cannot be written."""
    name = "python -m skip_exp.report.ablations"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", default=["outputs"])
    parser.add_argument("--out", type=Path, default=Path("outputs/ablations.md"), metavar="FILE")
    of_own = "a folder with ablation sweeps of your own, beside the package's"
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help=of_own)
    options = parser.parse_args(arguments)
    try:
        check_folder(options.config_dir)
        save({options.out: page(frame.load(options.folders), options.config_dir)})
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: {options.out}")
    return 0


def page(results: pd.DataFrame, own: Path | None = None) -> str:
    """The whole page, Markdown, from a frame of results; ``own``: a folder of further sweeps."""
    scores = scored(results)
    studies = corrected([study(screen, scores) for screen in read_all(own)])
    rows = pd.concat([of.rows for of in studies], ignore_index=True)
    used = pd.concat([of.used for of in studies]).drop_duplicates("job_id")
    costs = {of.screen.name: of.used for of in studies if of.compares} | {"total": used}
    # Of each job its own seconds: stages from the cache cost it nothing.
    cost = [
        {"section": name, "jobs": str(len(runs)), "seconds": f"{runs['seconds/total'].sum():.0f}"}
        for name, runs in costs.items()
    ]
    parts = [
        *("# Ablations", *overview(rows), "## How to read it", *READING, _left_out(results, used)),
        *(part for of in studies for part in section(of)),
        *("## Cost", markdown(pd.DataFrame(cost))),
        "A job counts in each section that uses it, in the total once.",
        *("## What was better than the default", _listed(rows, "better")),
        *("## What did not work", _listed(rows, "worse")),
        " ".join([*backbone_notes(used), provenance(used)]),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def overview(rows: pd.DataFrame) -> list[str]:
    """How the default recipe does, and every option in one line; nothing without results.

    ``rows``: of all studies.
    """
    recipe, options = recipe_lines(rows), option_lines(rows)
    texts = {
        f"The default recipe after re-tuning, from the section with most pairs ({BARE}: see"
        " below):": recipe,
        "Every option against the default, or what its section names instead, points on select"
        f" before and after re-tuning, by ratio; in brackets: under {FEW} pairs, no verdict."
        " Means over different pairs do not compare between lines.": options,
    }
    parts = [
        part for text, lines in texts.items() if len(lines) for part in (text, markdown(lines))
    ]
    return ["## In short", *parts] if parts else []


def recipe_lines(rows: pd.DataFrame) -> pd.DataFrame:
    """The default's final results at every ratio above 0, each from where it has most pairs."""
    rows = rows[rows["is_default"] & rows["is_reference"] & (rows["phase"] == "final")]
    rows = rows[(rows["ratio"] > 0) & (rows["n"] > 0)]
    rows = rows.sort_values(["ratio", "n"], ascending=[True, False], kind="stable")
    rows = rows.drop_duplicates("ratio")
    if rows.empty:
        return pd.DataFrame()
    head = {"ratio": rows["ratio"].map("{:g}".format), "pairs": rows["n"].astype(str)}
    return pd.DataFrame({**head, **_score_text(rows)})


def option_lines(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per option with a difference to tell; columns: phase and ratio."""
    rows = rows[rows["select difference"].notna()]
    if rows.empty:
        return pd.DataFrame()
    rows = rows.assign(
        column=rows["phase"].map(PHASE) + rows["ratio"].map(", {:g}".format),
        text=rows["select difference"].map(short),
    )
    order = rows.sort_values(["phase", "ratio"], ascending=[False, True], kind="stable")
    lines = rows.pivot(index=["section", "option"], columns="column", values="text")
    lines = lines.reindex(rows.set_index(["section", "option"]).index.drop_duplicates())
    return lines[order["column"].drop_duplicates()].fillna("-").reset_index()


def _score_text(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores, drops (marked where a dense_continued to measure against is missing) and speed."""
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


def short(difference: Difference) -> str:
    """``worse -3.1``, ``tie +0.2``; ``(+1.0)`` for few pairs."""
    mean = f"{100 * difference.mean:+.1f}"
    return f"({mean})" if difference.interval is None else f"{difference.verdict} {mean}"


def points(difference: Difference | float) -> str:
    """``-1.25 [-2.00, -0.50]``; ``-`` for none (NaN)."""
    if not isinstance(difference, Difference):
        return "-"
    mean = f"{100 * difference.mean:+.2f}"
    if difference.interval is None:
        return mean
    low, high = (f"{100 * end:+.2f}" for end in difference.interval)
    return f"{mean} [{low}, {high}]"


def by_task(difference: Difference) -> str:
    """``cola +0.30, sst2 -1.20``"""
    return ", ".join(f"{task} {100 * mean:+.2f}" for task, mean in difference.tasks.items())


def _left_out(results: pd.DataFrame, used: pd.DataFrame) -> str:
    is_done, is_used = results["status"] == "done", results["job_id"].isin(used["job_id"])
    is_real = is_done & ~results["sample"]
    counts = {
        "failed": (~is_done).sum(),
        "on generated data": (is_done & results["sample"]).sum(),
        "with settings of no section (see `config` in the result file)": (is_real & ~is_used).sum(),
    }
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    return f"Of {len(results)} result files not used: {', '.join(parts)}." if parts else ""


def section(study: Study) -> list[str]:
    """One ablation: question, command, what is left out, and a table per ratio."""
    screen = study.screen
    factors = ", ".join(f"`{factor}`" for factor in screen.factors)
    which = "Default" if screen.is_default else "Without the default; compared with"
    parts = [
        f"## {TITLES.get(screen.name) or screen.title.capitalize()}",
        screen.question,
        f"```\n{screen.command}\n```",
        f"Factor: {factors}. {which}: `{screen.reference}`.",
    ]
    if not study.compares:
        return [*parts, "No results yet."]
    at_chance = [
        f"{task} on {backbone} (dense {spread(place['dense'], place['std'])},"
        f" majority class {percent(place['majority'])}, {place['metric']})"
        for (task, backbone), place in study.chance.iterrows()
    ]
    parts += [f"At chance, left out: {'; '.join(at_chance)}."] if at_chance else []
    if not study.crossfit:
        parts += ["Select is not cross-fitted here: not all results tell it."]
    parts += _baseline(study)
    for ratio, rows in study.rows[study.rows["n"] > 0].groupby("ratio"):
        # The name keeps headings apart: links to them would be the same.
        parts += [f"### {screen.title}, ratio {ratio:g}", markdown(_lines(rows, study))]
    absent = study.rows[study.rows["n"] == 0].groupby(["option", "phase"], sort=False)["ratio"]
    texts = [
        f"`{option}` {PHASE[phase]} re-tuning at {', '.join(map('{:g}'.format, ratios))}"
        for (option, phase), ratios in absent
    ]
    return [*parts, f"No results: {'; '.join(texts)}." if texts else ""]


def _baseline(study: Study) -> list[str]:
    """Dense and dense_continued of the default's re-tuning; at 0 that is a table of its own."""
    base = study.base
    if base.empty or (study.screen.points["ratio"] == 0).any():
        return []
    again = base.dropna(subset=["again/select"])
    scores = {"dense": base[["select/dense", "metric/dense"]]}
    scores |= {"dense_continued": again[["again/select", "again/validation"]]}
    lines = [
        {"option": name, "n": f"{len(values)} of {study.expected}"}
        | dict(zip(("select", "val"), map(percent, values.mean()), strict=True))
        for name, values in scores.items()
        if len(values)
    ]
    places = base.loc[base["better"], ["task", "backbone"]].drop_duplicates()
    better = ", ".join(f"{t} on {b}" for t, b in sorted(places.to_numpy().tolist())) or "nowhere"
    heading = f"### {study.screen.title}, nothing cut (ratio 0)"
    sentence = f"dense_continued is the better one: {better}." if len(again) else ""
    return [heading, markdown(pd.DataFrame(lines)), sentence]


def _lines(rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The rows as text, without the column of speed-ups where none was measured."""
    mark = " (default)" if study.screen.is_default else " (compared with)"
    differences, text = rows["select difference"], _score_text(rows)
    speeds = text["speed-up"].where(rows["phase"] == "final", "-")
    columns = {
        "phase": rows["phase"],
        "option": rows["option"] + rows["is_reference"].map({True: mark, False: ""}),
        "n": rows["n"].map(lambda n: f"{n} of {study.expected}"),
        **text[["select", "drop"]],
        "difference": differences.map(points),
        "verdict": [d.verdict if isinstance(d, Difference) else "" for d in differences],
        **text[["val", "val drop"]],
        "val difference": rows["validation difference"].map(points),
        **({"speed-up": speeds} if (speeds != "-").any() else {}),
    }
    return pd.DataFrame(columns)


def _listed(rows: pd.DataFrame, verdict: str) -> str:
    """The rows of a verdict, the largest differences of each section first."""
    lines = []
    for section, group in rows.dropna(subset=["select difference"]).groupby("section", sort=False):
        group = group[[d.verdict == verdict for d in group["select difference"]]]
        size = group["select difference"].map(lambda d: abs(d.mean)).astype(float)
        lines += [
            f"- {section}: `{row['option']}` at ratio {row['ratio']:g}, {PHASE[row['phase']]}"
            f" re-tuning: {points(row['select difference'])} on select"
            f" ({row['select difference'].n} pairs: {by_task(row['select difference'])})"
            for _, row in group.loc[(-size).sort_values(kind="stable").index].iterrows()
        ]
    return "\n".join(lines) or "Nothing so far."


if __name__ == "__main__":
    sys.exit(main())
