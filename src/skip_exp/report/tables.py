"""Every table: cells or jobs as a frame of text, for the console, as Markdown, LaTeX or CSV."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console, Group
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from skip_exp.config.groups import MISSED
from skip_exp.report import frame
from skip_exp.report.cells import at_chance, ratio_text
from skip_exp.results import Result
from skip_exp.utils import files
from skip_exp.utils.console import open_screen

REMARKS = ("variant", "notes", "note")  # they wrap, and go where no row has any
NAMES = ("task", "backbone", "keep by", "attribution", "seed", "data")
TEXT_COLUMNS = REMARKS + NAMES + ("metric", "model")  # to the left; the others are numbers
LESS = ("cut %", "pruned", "dense")  # in this order left out where a terminal is too narrow
REMARK_WIDTH = 17  # of a remark and a space, at least, in a terminal
SAMPLE = "stand-in"  # rows of another data set in place of the task's own
CAPTION = (
    "Metrics and fractions in percent, mean ± standard deviation over n seeds, on the validation"
    " split. dense: tuned, nothing removed; pruned: before re-tuning; final, or the name of"
    " the metric: after it. cut %: removed of the parameters of the attention and FFN linears;"
    " report.csv has the fraction of the whole model, too. Speed-up: measured against dense, same"
    " process and batches, on a quiet machine."
)
# What Markdown and LaTeX would take for markup.
MARKDOWN_MARKS = str.maketrans(
    {mark: "\\" + mark for mark in "\\|*_`[]"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)
LATEX_MARKS = str.maketrans(
    {mark: "\\" + mark for mark in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "<": r"$<$", ">": r"$>$"}
)


def percent(value: float | None) -> str:
    """A fraction in percent; ``-`` where there is none."""
    return "-" if value is None or pd.isna(value) else f"{100 * value:.1f}"


def points(difference: float) -> str:
    """A difference of fractions in points, ``+1.25``; ``-`` where there is none."""
    return "-" if pd.isna(difference) else f"{100 * difference:+.2f}"


def spread(mean: float, std: float) -> str:
    """``81.8 ± 0.3`` for fractions; without a deviation for a single run; ``-`` for none."""
    return percent(mean) if pd.isna(std) else f"{percent(mean)} ± {100 * std:.1f}"


def show_speed(mean: float, std: float) -> str:
    """``1.95 ± 0.02x``; ``-`` where there is no timing of a quiet machine."""
    if pd.isna(mean):
        return "-"
    return f"{mean:.2f}x" if pd.isna(std) else f"{mean:.2f} ± {std:.2f}x"


def _show_size(size: float) -> str:
    """``227 kB``; ``-`` where no skill was saved."""
    return "-" if pd.isna(size) else decimal(int(size), precision=0)


def lines(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of a report as text, without empty columns."""
    rows = cells.rename(columns=lambda name: name.removesuffix(" mean"))
    finals = pd.Series(map(spread, rows["metric/final"], rows["metric/final std"]), rows.index)
    metrics = rows["metric"].unique()
    return _lines(
        rows,
        {"task": rows["task"], "backbone": rows["backbone"], "keep by": rows["attribution"]},
        {metrics[0] if len(metrics) == 1 else "final": finals},
        {"n": rows["n"], "notes": notes(cells)},
    )


def _lines(
    rows: pd.DataFrame,
    names: dict[str, Iterable[Any]],
    finals: dict[str, Iterable[str]],
    remarks: dict[str, Iterable[Any]],
) -> pd.DataFrame:
    """A line of text per row: one cell over seeds, or one job, which has no deviations."""
    measures = ("metric/dense", "metric/pruned", "latency/speedup")
    std = rows.reindex(columns=[f"{name} std" for name in measures])
    before = {
        "variant": rows["variant"],
        "metric": rows["metric"],
        "ratio": rows["ratio"].map(ratio_text),
        "dense": map(spread, rows["metric/dense"], std["metric/dense std"]),
        "pruned": map(spread, rows["metric/pruned"], std["metric/pruned std"]),
    }
    after = {
        "cut %": rows["params/block_pruned"].map(percent),
        "speed-up": map(show_speed, rows["latency/speedup"], std["latency/speedup std"]),
        "data": rows["data"].mask(rows["sample"], SAMPLE),
    }
    columns = names | before | finals | after | remarks
    text = pd.DataFrame({name: list(map(str, values)) for name, values in columns.items()})
    text = shorten(text)
    others = text.columns.difference(REMARKS)
    text[others] = text[others].replace({"": "-", "nan": "-", "<NA>": "-"})
    return text


def shorten(text: pd.DataFrame) -> pd.DataFrame:
    """The table without remarks that no row has, and without the metric where there is one."""
    unused = [name for name in REMARKS if name in text and not any(text[name])]
    if "metric" in text and text.loc[text["metric"] != "", "metric"].nunique() < 2:
        unused.append("metric")
    return text.drop(columns=unused)


def notes(cells: pd.DataFrame) -> list[str]:
    """Per cell what keeps it from being read as a plain result."""
    texts = []
    for _, cell in cells.iterrows():
        marks = {
            "stand-in rows": cell["sample"],
            cell["labels"]: cell["labels"],
            "at chance": cell["at chance"],
            "several code versions": cell["versions"],
            f"{cell['duplicates']:,} duplicates": cell["duplicates"],
            "contended": cell["contended"],
        }
        texts.append(", ".join(text for text, is_true in marks.items() if is_true))
    return texts


def to_csv(cells: pd.DataFrame) -> str:
    """Unrounded means and deviations (fractions, not percent), one line per cell."""
    table = cells.assign(ratio=cells["ratio"].map(ratio_text), notes=notes(cells))
    return str(table.to_csv(index=False))


def show_jobs(results: Sequence[Result]) -> None:
    """Print the table that ends a command: a row per job, in the order given."""
    jobs = frame.rows(results)
    jobs["variant"] = frame.variants(jobs)
    note = ("failed: " + jobs["error"]).where(jobs["status"] != "done", job_notes(jobs))
    names = jobs[["task", "backbone", "attribution", "seed"]]
    remarks = {"skill": jobs["skill_bytes"].map(_show_size), "note": note}
    text = _lines(jobs, dict(names.items()), _finals(results), remarks)
    show(text, "1 job" if len(text) == 1 else f"{len(text)} jobs")


def show(text: pd.DataFrame, count: str, caption: str = "") -> None:
    """Print a table: what all rows share is in its title, and names stay whole.

    What a terminal has no room for is left out, in the order of LESS.
    """
    shared = [name for name in NAMES if name in text and text[name].nunique() == 1]
    values = [text[name].iloc[0] for name in shared if name not in ("attribution", "seed")]
    text = text.drop(columns=shared)
    if "variant" in text:
        settings = _find_shared(text["variant"])
        values += settings
        text = shorten(text.assign(variant=_leave_out(text["variant"], settings)))
    title = f"{count} in percent: {', '.join(values)}"
    screen = open_screen()
    remarks = text.columns.intersection(REMARKS)
    room = screen.width - REMARK_WIDTH * len(remarks)
    for name in LESS:
        if Console(width=1000).measure(console(text.drop(columns=remarks))).maximum > room:
            text = text.drop(columns=name, errors="ignore")
    screen.print(console(text, title, caption))


def _find_shared(variants: pd.Series) -> list[str]:
    """The settings that every row has: of ``a=1, b=1`` and ``a=1, b=2`` ``a=1``."""
    shared = variants.iloc[0].split(", ")
    for variant in variants:
        settings = variant.split(", ")
        shared = [text for text in shared if text in settings]
    return list(filter(None, shared))


def _leave_out(variants: pd.Series, shared: list[str]) -> list[str]:
    """The variants without the settings that are named once for all."""
    texts = []
    for variant in variants:
        settings = [text for text in variant.split(", ") if text not in shared]
        texts.append(", ".join(settings))
    return texts


def _finals(results: Sequence[Result]) -> dict[Any, Iterable[str]]:
    """A column for each metric of the tasks: the final model's scores."""
    rows = []
    for result in results:
        finals = {name: scores.get("final") for name, scores in result.metrics.items()}
        finals.pop("extra", None)
        if result.metric.name:
            finals[result.metric.name] = result.metric.final
        rows.append(finals)
    return dict(pd.DataFrame(rows).map(percent).items())


def job_notes(jobs: pd.DataFrame) -> list[str]:
    """Per job what keeps it from being read as a plain result."""
    is_chance = at_chance(jobs.assign(row=range(len(jobs))), ["row"])
    reached = jobs["params/block_pruned"]
    is_missed = (reached - jobs["ratio"]).abs() > MISSED
    texts = []
    for index, job in enumerate(jobs.to_dict("records")):
        marks = [job["backbone_note"].partition(":")[0]]
        if is_chance.iloc[index]:
            marks.append("at chance")
        if job["contended"]:
            marks.append("contended")
        if is_missed.iloc[index]:
            marks.append(f"reached {reached.iloc[index]:.2f}")
        texts.append(", ".join(filter(None, marks)))
    return texts


def console(text: pd.DataFrame, title: str = "", caption: str = "") -> Group:
    """A table for the terminal; rows of stand-in data are yellow.

    Title and caption are as wide as the terminal: a table's own would wrap at its last column.
    """
    table = Table(box=None, collapse_padding=True, pad_edge=False)
    for name in text:
        justify: Any = "left" if name in TEXT_COLUMNS else "right"
        table.add_column(name, justify=justify, no_wrap=name not in REMARKS, overflow="fold")
    for _, row in text.iterrows():
        table.add_row(*map(escape, row), style="yellow" if row.get("data") == SAMPLE else None)
    parts: list[Table | Text] = [Text(title, "table.title"), table, Text(caption, "table.caption")]
    return Group(*(part for part in parts if part))


def markdown(text: pd.DataFrame) -> str:
    """A Markdown table; a sentence where there are no rows."""
    if text.empty:
        return "No results."
    align = ["---" if name in TEXT_COLUMNS else "---:" for name in text]
    body = text.map(escape_markdown).to_numpy()
    return pipe_rows([map(escape_markdown, text), align, *body])


def pipe_rows(rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table of rows that stay as they are: head, alignment, body."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def escape_markdown(text: str) -> str:
    """A text as Markdown shows it, on one line, whatever its characters."""
    return " ".join(text.split()).translate(MARKDOWN_MARKS)


def latex(text: pd.DataFrame, caption: str, long: bool = False) -> str:
    """A ``table``, or a ``longtable`` over several pages (packages: booktabs, longtable)."""
    if text.empty:
        return "% no results\n"
    align = "".join("l" if name in TEXT_COLUMNS else "r" for name in text)
    table = text.map(tex).set_axis([tex(name) for name in text], axis=1)
    body = table.to_latex(index=False, column_format=align, caption=tex(caption), longtable=long)
    body = body.replace(r"\begin{table}", "\\begin{table}\n\\centering\\small")
    return f"% \\usepackage{{booktabs,longtable}}\n{body}"


def tex(text: str) -> str:
    """Escape for LaTeX."""
    return text.translate(LATEX_MARKS)


def write_files(texts: Mapping[Path, str]) -> None:
    """Write files whole. Raises SkipError where one cannot be written."""
    for file, text in texts.items():
        files.save(file, text.encode(), f"--output {file}")
