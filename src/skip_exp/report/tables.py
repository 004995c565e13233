"""The cells as rows of text, and those rows as console table, Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from skip_exp.report.cells import FOUND, Cell, Setting, Stat, at_chance
from skip_exp.report.text import Found, backbone_label, percent, source

PHASES = ("dense", "pruned", "final")
TEXT_COLUMNS = (
    *("task", "backbone", "keep by", "variant", "metric", "data", "notes"),
    *("section", "option", "phase", "verdict"),  # of ablations
)
CAPTION = (
    "Metrics and fractions in percent, mean ± standard deviation over n seeds, on the validation"
    " split. dense: prompt-tuned, nothing removed; pruned: before tuning again; final: after."
    " block %, all %: parameters removed, of the attention and FFN linears and of the whole model."
    " Speed-up: measured against dense, same process and batches."
)


def spread(value: Stat | None, scale: float = 100, digits: int = 1, unit: str = "") -> str:
    """``81.8 ± 0.3``; without a deviation for a single run; ``-`` for none."""
    if value is None:
        return "-"
    mean = f"{scale * value.mean:.{digits}f}"
    return mean + ("" if value.std is None else f" ± {scale * value.std:.{digits}f}") + unit


def speed(cell: Cell) -> str:
    value = cell.speedup()
    if value is None:
        return "contended" if cell.contended else "-"
    return spread(value, scale=1, digits=2, unit="x")


def _mean(value: Stat | None) -> str:
    return "-" if value is None else percent(value.mean)


def notes(cell: Cell) -> list[str]:
    """What keeps a cell from being read as a plain result."""
    said = ["sample data"] if cell.is_sample else []
    said += sorted({label for run in cell.runs if (label := backbone_label(run))})
    said += ["at chance"] if at_chance(cell) else []
    said += [f"{len(cell.failed)} failed"] if cell.failed else []
    timed = [run["latency"] for run in cell.runs if run.get("latency")]
    disturbed = sum(bool(each.get("contended")) for each in timed)
    if disturbed and not cell.contended:
        said.append(f"{disturbed} of {len(timed)} timings contended")
    return said


def row(cell: Cell) -> dict[str, str]:
    """One line of the table: column name to text."""
    setting = cell.setting
    return {
        "task": setting.task,
        "backbone": setting.backbone,
        "keep by": setting.attribution,
        "variant": setting.variant,
        "ratio": setting.ratio_text,
        "metric": cell.metric,
        **{phase: spread(cell.stat("metric", phase)) for phase in PHASES},
        "block %": _mean(cell.stat("params", "block_pruned")),
        "all %": _mean(cell.stat("params", "all_pruned")),
        "speed-up": speed(cell),
        "n": str(len(cell.runs)),
        "data": ", ".join(sorted({source(run) for run in cell.runs})) or "-",
        "notes": ", ".join(notes(cell)),
    }


def rows(gathered: Sequence[Cell]) -> list[dict[str, str]]:
    """All lines, without the columns that nobody fills."""
    lines = [row(cell) for cell in gathered]
    unused = [name for name in ("variant", "notes") if not any(line[name] for line in lines)]
    return [{key: value for key, value in line.items() if key not in unused} for line in lines]


def describe(setting: Setting, seed: Any) -> str:
    """A missing job in words."""
    variant = f" ({setting.variant})" if setting.variant else ""
    return (
        f"{setting.task}, {setting.backbone}, {setting.attribution}{variant},"
        f" ratio {setting.ratio_text}, seed {seed}"
    )


def describe_failure(result: Found) -> str:
    known = [str(result[name]) for name in ("task", "backbone", "attribution") if result.get(name)]
    known += [
        f"{name} {result[name]}" for name in ("ratio", "seed") if result.get(name) is not None
    ]
    return f"{', '.join(known)}: {result.get('error')}"


def console(lines: Sequence[dict[str, str]]) -> Table:
    table = Table(caption=CAPTION, caption_justify="left")
    for name in lines[0] if lines else ():
        right = name not in TEXT_COLUMNS
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    for line in lines:
        style = "yellow" if "*sample*" in line["data"] else None
        table.add_row(*map(escape, line.values()), style=style)
    return table


def markdown(lines: Sequence[dict[str, str]]) -> str:
    if not lines:
        return "No results."
    names = list(lines[0])
    align = ["---" if name in TEXT_COLUMNS else "---:" for name in names]
    cells = [names, align, *([_md(value) for value in line.values()] for line in lines)]
    return "\n".join(f"| {' | '.join(each)} |" for each in cells)


def _md(text: str) -> str:
    for mark in "\\|*_`":
        text = text.replace(mark, "\\" + mark)
    return text


def latex(lines: Sequence[dict[str, str]]) -> str:
    """A longtable (packages: booktabs, longtable)."""
    if not lines:
        return "% no results"
    names = list(lines[0])
    align = "".join("l" if name in TEXT_COLUMNS else "r" for name in names)
    head = " & ".join(map(tex, names))
    body = [" & ".join(map(tex, line.values())) + r" \\" for line in lines]
    return "\n".join(
        [
            r"% \usepackage{booktabs,longtable}",
            rf"\begin{{longtable}}{{{align}}}",
            rf"\caption{{{tex(CAPTION)}}} \\",
            rf"\toprule {head} \\ \midrule \endhead",
            *body,
            r"\bottomrule",
            r"\end{longtable}",
        ]
    )


def tex(text: str) -> str:
    """Escape for LaTeX."""
    marks = {mark: "\\" + mark for mark in "&%$#_{}"}
    marks |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    marks |= {"±": r"$\pm$", "<": r"$<$", ">": r"$>$"}
    return "".join(marks.get(letter, letter) for letter in text)


def to_csv(gathered: Sequence[Cell]) -> str:
    """Unrounded means and deviations (fractions, not percent), one line per cell."""
    groups = [("metric", phase) for phase in PHASES]
    groups += [("select", phase) for phase in PHASES]
    groups += [("params", "block_pruned"), ("params", "all_pruned"), ("flops", "ratio")]
    groups += [("latency", "dense_ms"), ("latency", "final_ms")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fixed = ["task", "backbone", "attribution", "variant", "ratio", "metric", "is_sample", "n"]
    stats = [f"{group}/{name}" for group, name in groups] + ["latency/speedup"]
    spreads = [f"{name} {kind}" for name in stats for kind in ("mean", "std")]
    writer.writerow([*fixed, *spreads, "failed", "notes"])
    for cell in gathered:
        values = [cell.stat(group, name) for group, name in groups] + [cell.speedup()]
        numbers = [number for value in values for number in _numbers(value)]
        head = [*cell.setting[:-1], _ratio(cell), cell.metric, cell.is_sample, len(cell.runs)]
        writer.writerow([*head, *numbers, len(cell.failed), "; ".join(notes(cell))])
    return out.getvalue()


def _ratio(cell: Cell) -> float | str:
    """As it was asked for, unrounded."""
    return cell.setting.ratio_text if cell.setting.ratio == FOUND else cell.setting.ratio


def _numbers(value: Stat | None) -> tuple[float | None, float | None]:
    return (None, None) if value is None else (value.mean, value.std)
