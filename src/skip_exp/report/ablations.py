"""``python -m skip_exp.report.ablations [FOLDER ...] [--out FILE]``: every ablation, one page.

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
from skip_exp.report.contrasts import Study, study
from skip_exp.report.overview import BARE, option_title, overview, score_text
from skip_exp.report.paired import ABOUT, FEW, Difference
from skip_exp.report.reconstruction import provenance
from skip_exp.report.screens import read_all, scored
from skip_exp.report.tables import markdown, percent, save, spread

PHASE = {"pruned": "before re-tuning", "final": "after re-tuning"}
TITLES = {"ablation_controls": "Default recipe against controls"}
READING = (
    "Written by `python -m skip_exp.report.ablations` from result files. Options of one factor are"
    " compared with the default over pairs of the same task, backbone and seed, everything else"
    " being equal; screens share the results whose settings are the same.",
    "Percent and points (100 x the task's main metric), means over n of the pairs that there could"
    " be. *pruned*: before re-tuning; *final*: after it. select: the selection slice, which alone"
    " is used to choose; val: the validation split, **not used to choose**.",
    "drop: before re-tuning against dense; after it against the better of dense and dense_continued"
    " (the same re-tuning with nothing cut; which is better is told by the means on select, per"
    f" task and backbone). {BARE}: some or all pairs have no dense_continued and are measured"
    " against dense.",
    f"difference: to the default, with its interval: {ABOUT}. Verdict on select: better, worse, or"
    f" tie where the interval holds 0; none under {FEW} pairs. Pairs count as independent, which"
    " seeds of one task are not quite; nothing is corrected for the number of comparisons.",
    "At chance: dense is not above the majority class by two standard errors (validation split);"
    " such tasks are in no mean and no difference.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where there is nothing to read or the page cannot be written."""
    name = "python -m skip_exp.report.ablations"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", default=["outputs"])
    parser.add_argument("--out", type=Path, default=Path("outputs/ablations.md"), metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        save({options.out: page(frame.load(options.folders))})
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: {options.out}")
    return 0


def page(results: pd.DataFrame) -> str:
    """The whole page, Markdown, from a frame of results."""
    scores = scored(results)
    studies = [study(screen, scores) for screen in read_all()]
    used = pd.concat([of.used for of in studies]).drop_duplicates("job_id")
    parts = ["# Ablations", *overview(studies), "## How to read it", *READING]
    parts += [_left_out(results, used)]
    parts += [part for of in studies for part in section(of)]
    costs = [_cost(of.screen.name, of.used) for of in studies if of.compares]
    parts += ["## Cost", markdown(pd.DataFrame([*costs, _cost("total", used)]))]
    parts.append("A job counts in each section that uses it, in the total once.")
    parts += ["## What was better than the default", _listed(studies, "better")]
    parts += ["## What did not work", _listed(studies, "worse")]
    parts += [" ".join([*backbone_notes(used), provenance(used)])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _left_out(results: pd.DataFrame, used: pd.DataFrame) -> str:
    is_done, is_used = results["status"] == "done", results["job_id"].isin(used["job_id"])
    counts = {
        "failed": (~is_done).sum(),
        "on generated data": (is_done & results["sample"]).sum(),
        "with settings of no section (see `config` in the result file)": (
            is_done & ~results["sample"] & ~is_used
        ).sum(),
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
    parts += [_chance(study.chance), *_baseline(study)]
    for ratio, rows in study.rows[study.rows["n"] > 0].groupby("ratio"):
        # The name keeps headings apart: links to them would be the same.
        parts += [f"### {screen.title}, ratio {ratio:g}", markdown(_lines(rows, study))]
    return [*parts, _without_results(study.rows)]


def _without_results(rows: pd.DataFrame) -> str:
    """What the tables have no row of: ``No results: `random` after re-tuning at 0.5.``"""
    parts = [
        f"`{option}` {PHASE[phase]} at {', '.join(map('{:g}'.format, group['ratio']))}"
        for (option, phase), group in rows[rows["n"] == 0].groupby(["option", "phase"], sort=False)
    ]
    return f"No results: {'; '.join(parts)}." if parts else ""


def _chance(places: pd.DataFrame) -> str:
    """The places at chance with what shows it, on the metric that is known for the majority."""
    parts = [
        f"{task} on {backbone} (dense {spread(place['dense'], place['std'])},"
        f" majority class {percent(place['majority'])}, {place['metric']})"
        for (task, backbone), place in places.iterrows()
    ]
    return f"At chance, left out: {'; '.join(parts)}." if parts else ""


def _baseline(study: Study) -> list[str]:
    """Dense and dense_continued of the default's re-tuning."""
    base = study.base
    if 0 in study.screen.ratios or base.empty:  # at 0 it is a table of its own
        return []
    again = base.dropna(subset=["again/select"])
    scores = {"dense": base[["select/dense", "metric/dense"]]}
    scores |= {"dense_continued": again[["again/select", "again/validation"]]}
    lines = [
        {"option": name, "n": f"{len(values)} of {study.expected}"}
        | {split: percent(values.iloc[:, i].mean()) for i, split in enumerate(("select", "val"))}
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
    differences, text = rows["select difference"], score_text(rows)
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


def points(difference: Difference | float) -> str:
    """``-1.25 [-2.00, -0.50]``; ``-`` for none (NaN)."""
    if not isinstance(difference, Difference):
        return "-"
    mean = f"{100 * difference.mean:+.2f}"
    if difference.interval is None:
        return mean
    low, high = (f"{100 * end:+.2f}" for end in difference.interval)
    return f"{mean} [{low}, {high}]"


def _cost(name: str, runs: pd.DataFrame) -> dict[str, str]:
    """Jobs and their own seconds: stages from the cache cost them nothing."""
    seconds = runs["seconds/total"].sum()
    return {"section": name, "jobs": str(len(runs)), "seconds": f"{seconds:.0f}"}


def _listed(studies: Sequence[Study], verdict: str) -> str:
    """The rows of a verdict, the largest differences of each section first."""
    parts = []
    for of in studies:
        rows = [
            (row, row["select difference"])
            for _, row in of.rows.dropna(subset=["select difference"]).iterrows()
            if row["select difference"].verdict == verdict
        ]
        parts += [
            f"- {option_title(of.screen)}: `{row['option']}` at ratio {row['ratio']:g},"
            f" {PHASE[row['phase']]}: {points(difference)} on select ({difference.n} pairs)"
            for row, difference in sorted(rows, key=lambda item: -abs(item[1].mean))
        ]
    return "\n".join(parts) or "Nothing so far."


if __name__ == "__main__":
    sys.exit(main())
