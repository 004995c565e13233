"""``python -m skip_exp.report.ablations [FOLDER ...] [--out FILE]``: every ablation, one page."""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from skip_exp import results
from skip_exp.errors import SkipError
from skip_exp.machine import files
from skip_exp.report import tables
from skip_exp.report.cells import Cell, majority, stat
from skip_exp.report.contrasts import Contrast, Place, Split, Study, study
from skip_exp.report.overview import BARE, drop, overview, title
from skip_exp.report.paired import ABOUT, FEW, Difference
from skip_exp.report.reconstruction import backbone_notes, provenance
from skip_exp.report.screens import Index, index, read_all
from skip_exp.report.text import Found, percent

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
    parser = argparse.ArgumentParser(
        prog="python -m skip_exp.report.ablations", description=__doc__
    )
    parser.add_argument("folders", nargs="*", metavar="FOLDER", default=["outputs"])
    parser.add_argument("--out", type=Path, default=Path("outputs/ablations.md"), metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        found = results.load(options.folders)
        if not found:
            where = ", ".join(options.folders)
            raise SkipError(f"no {results.FILE} below {where}: run a job first")
        write(options.out, page(found))
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: {options.out}")
    return 0


def write(out: Path, text: str) -> None:
    """Raises SkipError where the file cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        files.replace(out, text.encode())
    except OSError as error:
        raise SkipError(f"--out {out}: cannot be written: {error.strerror}") from error


def page(found: Sequence[Found]) -> str:
    """The whole page, Markdown."""
    known: Index = index(found)
    studies = [study(screen, known) for screen in read_all()]
    used = _distinct(run for each in studies for run in each.used)
    parts = ["# Ablations", *overview(studies), "## How to read it", *READING]
    parts += _left_out(found, used)
    parts += [part for each in studies for part in section(each)]
    costs = [_cost(each) for each in studies if each.compares]
    parts += ["## Cost", tables.markdown([*costs, _total(used)])]
    parts.append("A job counts in each section that uses it, in the total once.")
    parts += ["## What was better than the default", _listed(studies, "better")]
    parts += ["## What did not work", _listed(studies, "worse")]
    parts += [" ".join([*backbone_notes(used), provenance(used)])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _distinct(runs: Iterable[Found]) -> list[Found]:
    """Each job once: a reused result is a copy of another one."""
    return list({run["job_id"]: run for run in runs}.values())


def _left_out(found: Sequence[Found], used: Sequence[Found]) -> list[str]:
    jobs = {run["job_id"] for run in used}
    done = [run for run in found if run["status"] == "done"]
    sample = sum(bool(run.get("data_is_sample")) for run in done)
    other = sum(not run.get("data_is_sample") and run["job_id"] not in jobs for run in done)
    counts = {
        "failed": len(found) - len(done),
        "on generated data": sample,
        "with settings of no section (see `config` in the result file)": other,
    }
    told = [f"{count} {what}" for what, count in counts.items() if count]
    return [f"Of {len(found)} result files not used: {', '.join(told)}."] if told else []


def section(each: Study) -> list[str]:
    """One ablation: question, command, what is left out, and a table per ratio."""
    screen = each.screen
    factors = ", ".join(f"`{factor}`" for factor in screen.factors)
    which = "Default" if screen.is_default else "Without the default; compared with"
    parts = [
        f"## {TITLES.get(screen.name) or screen.title.capitalize()}",
        screen.question,
        f"```\n{screen.command}\n```",
        f"Factor: {factors}. {which}: `{screen.reference.label}`.",
    ]
    if not each.compares:
        return [*parts, "No results yet."]
    parts += [_chance(each.chance), *_baseline(each)]
    for ratio in screen.ratios:
        rows = [row for row in each.rows if row.ratio == ratio and row.n]
        if rows:
            # The name keeps headings apart: links to them would be the same.
            heading = f"### {screen.title}, ratio {ratio:g}"
            parts += [heading, tables.markdown(_lines(rows, each))]
    return [*parts, _missing(each)]


def _missing(each: Study) -> str:
    """What the tables have no row of: ``No results: `random` after re-tuning at 0.5.``"""
    ratios: dict[tuple[str, str], list[str]] = {}
    for row in each.rows:
        if not row.n:
            ratios.setdefault((row.option.label, row.phase), []).append(f"{row.ratio:g}")
    told = [f"`{label}` {PHASE[phase]} at {', '.join(r)}" for (label, phase), r in ratios.items()]
    return f"No results: {'; '.join(told)}." if told else ""


def _chance(chance: Mapping[Place, Cell]) -> str:
    """The places at chance with what shows it, on the metric that is known for the majority."""
    told = []
    for place, cell in chance.items():
        name = cell.metric if cell.metric == "matthews" else "accuracy"
        shown = [(run.get("metrics") or {}).get(name) or run["metric"] for run in cell.runs]
        dense = stat(scores.get("dense") for scores in shown)
        told.append(
            f"{place.task} on {place.backbone} (dense {tables.spread(dense)},"
            f" majority class {percent(majority(cell, name))}, {name})"
        )
    return f"At chance, left out: {'; '.join(told)}." if told else ""


def _baseline(each: Study) -> list[str]:
    """Dense and dense_continued of the default's re-tuning."""
    base = each.base
    if 0 in each.screen.ratios or not base.dense:  # then it is a table of its own
        return []
    both = {"dense": base.dense, "dense_continued": base.continued}
    lines = [
        {
            "option": name,
            "n": f"{len(scores)} of {each.expected}",
            "select": _mean(score["select"] for score in scores.values()),
            "val": _mean(score["validation"] for score in scores.values()),
        }
        for name, scores in both.items()
        if scores
    ]
    better = ", ".join(f"{p.task} on {p.backbone}" for p in sorted(base.better)) or "nowhere"
    told = f"dense_continued is the better one: {better}." if base.continued else ""
    return [f"### {each.screen.title}, nothing cut (ratio 0)", tables.markdown(lines), told]


def _mean(values: Iterable[float]) -> str:
    found = stat(values)
    return percent(found.mean if found else None)


def _lines(rows: Sequence[Contrast], each: Study) -> list[dict[str, str]]:
    """The rows as text, without the column of speed-ups where none was measured."""
    lines = [_line(row, each.expected, each.screen.is_default) for row in rows]
    timed = any(line["speed-up"] != "-" for line in lines)
    return [{k: v for k, v in line.items() if timed or k != "speed-up"} for line in lines]


def _line(row: Contrast, expected: int, is_default: bool) -> dict[str, str]:
    mark = (" (default)" if is_default else " (compared with)") if row.is_reference else ""
    select, validation = (row.splits.get(name) for name in ("select", "validation"))
    return {
        "phase": row.phase,
        "option": row.option.label + mark,
        "n": f"{row.n} of {expected}",
        "select": percent(select.score if select else None),
        "drop": drop(row, select),
        "difference": _difference(select),
        "verdict": select.difference.verdict if select and select.difference else "",
        "val": percent(validation.score if validation else None),
        "val drop": drop(row, validation),
        "val difference": _difference(validation),
        "speed-up": tables.speed(row.cell) if row.phase == "final" else "-",
    }


def _difference(split: Split | None) -> str:
    return "-" if split is None or split.difference is None else points(split.difference)


def points(found: Difference) -> str:
    """``-1.25 [-2.00, -0.50]``"""
    mean = f"{100 * found.mean:+.2f}"
    if found.interval is None:
        return mean
    low, high = (f"{100 * end:+.2f}" for end in found.interval)
    return f"{mean} [{low}, {high}]"


def _cost(each: Study) -> dict[str, str]:
    return _total(_distinct(each.used)) | {"section": each.screen.name}


def _total(runs: Sequence[Found]) -> dict[str, str]:
    """Jobs and their own seconds: stages from the cache cost them nothing."""
    seconds = [(run.get("seconds") or {}).get("total") or 0.0 for run in runs]
    return {"section": "total", "jobs": str(len(runs)), "seconds": f"{sum(seconds):.0f}"}


def _listed(studies: Sequence[Study], verdict: str) -> str:
    """The rows of a verdict, the largest differences of each section first."""
    told = []
    for each in studies:
        found = [
            (row, split.difference)
            for row in each.rows
            if (split := row.splits.get("select"))
            and split.difference
            and split.difference.verdict == verdict
        ]
        for row, difference in sorted(found, key=lambda item: -abs(item[1].mean)):
            told.append(
                f"- {title(each)}: `{row.option.label}` at ratio {row.ratio:g},"
                f" {PHASE[row.phase]}: {points(difference)} on select ({difference.n} pairs)"
            )
    return "\n".join(told) or "Nothing so far."


if __name__ == "__main__":
    sys.exit(main())
