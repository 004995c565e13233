"""Every table: cells as a frame of text, and that frame for the console, as Markdown or LaTeX."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table

from skip_exp.config.names import STATES
from skip_exp.report.cells import ratio_text
from skip_exp.utils import files

TEXT_COLUMNS = (  # aligned to the left; the others are numbers
    *("task", "backbone", "keep by", "attribution", "variant", "metric", "data", "notes", "note"),
    *("seed", "at"),
)
SAMPLE = "*stand-in*"  # rows of another data set in place of the task's own
CAPTION = (
    "Metrics and fractions in percent, mean ± standard deviation over n seeds, on the validation"
    " split. dense: tuned, nothing removed; pruned: before re-tuning; final: after it."
    " block %, all %: parameters removed, of the attention and FFN linears and of the whole model."
    " Speed-up: measured against dense, same process and batches; ~: the ratio of FLOPs, where"
    " every timing was contended."
)


def percent(value: float | None) -> str:
    """A fraction times 100; ``-`` where there is none."""
    return "-" if value is None or pd.isna(value) else f"{100 * value:.1f}"


def points(difference: float) -> str:
    """A difference of fractions in points, ``+1.25``; ``-`` where there is none."""
    return "-" if pd.isna(difference) else f"{100 * difference:+.2f}"


def spread(mean: float, std: float) -> str:
    """``81.8 ± 0.3`` for fractions; without a deviation for a single run; ``-`` for none."""
    return percent(mean) + ("" if pd.isna(std) else f" ± {100 * std:.1f}")


def speed(mean: float, contended: bool, flops: float, std: float = float("nan")) -> str:
    """``1.95 ± 0.02x``; where every timing was disturbed, the FLOPs ratio as ``~2.9x FLOPs``."""
    if contended:
        return "contended" if pd.isna(flops) else f"~{flops:.1f}x FLOPs"
    if pd.isna(mean):
        return "-"
    return f"{mean:.2f}" + ("x" if pd.isna(std) else f" ± {std:.2f}x")


def source(data: str, sample: bool) -> str:
    """``local``, ``hub``, ``embedded``, or ``*stand-in*``."""
    return SAMPLE if sample else data or "-"


def lines(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of a report as text, without empty columns."""
    every_timing = (cells["timed"] > 0) & (cells["contended"] == cells["timed"])
    speed_ups = (
        *(cells["latency/speedup mean"], every_timing, cells["flops/ratio mean"]),
        cells["latency/speedup std"],
    )
    columns = {
        **{"task": cells["task"], "backbone": cells["backbone"], "keep by": cells["attribution"]},
        **{"variant": cells["variant"], "ratio": map(ratio_text, cells["ratio"])},
        "metric": cells["metric"].replace("", "-"),
        **{p: map(spread, cells[f"metric/{p} mean"], cells[f"metric/{p} std"]) for p in STATES},
        "block %": map(percent, cells["params/block_pruned mean"]),
        "all %": map(percent, cells["params/all_pruned mean"]),
        "speed-up": map(speed, *speed_ups),
        "n": cells["n"].astype(str),
        "data": map(source, cells["data"], cells["sample"]),
        "notes": notes(cells),
    }
    return without_empty(pd.DataFrame({name: list(values) for name, values in columns.items()}))


def without_empty(text: pd.DataFrame) -> pd.DataFrame:
    """The table without remarks that no row has."""
    unused = [name for name in ("variant", "notes", "note") if name in text and not any(text[name])]
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
            "several machines": cell["machines"],
            f"{cell['duplicates']:,} duplicates": cell["duplicates"],
            f"{cell['failed']} failed": cell["failed"],
            f"{cell['contended']} of {cell['timed']} timings contended": (
                0 < cell["contended"] < cell["timed"]
            ),
        }
        texts.append(", ".join(text for text, is_so in marks.items() if is_so))
    return texts


def to_csv(cells: pd.DataFrame) -> str:
    """Unrounded means and deviations (fractions, not percent), one line per cell."""
    ratios = map(ratio_text, cells["ratio"])
    return str(cells.assign(ratio=list(ratios), notes=notes(cells)).to_csv(index=False))


def console(text: pd.DataFrame, title: str | None = None, caption: str | None = None) -> Table:
    """A table for the terminal; rows of generated data are yellow."""
    texts: Any = {"title": title, "caption": caption}
    texts |= {"title_justify": "left", "caption_justify": "left"}
    table = Table(box=None, collapse_padding=True, pad_edge=False, **texts)
    for name in text:
        right = name not in TEXT_COLUMNS
        table.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for _, row in text.iterrows():
        table.add_row(*map(escape, row), style="yellow" if row.get("data") == SAMPLE else None)
    return table


def markdown(text: pd.DataFrame) -> str:
    """A Markdown table; a sentence where there are no rows."""
    if text.empty:
        return "No results."
    align = ["---" if name in TEXT_COLUMNS else "---:" for name in text]
    return piped([list(text), align, *text.map(_md).to_numpy()])


def piped(rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table of rows that stay as they are: head, alignment, body."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _md(text: str) -> str:
    return "".join("\\" + letter if letter in "\\|*_`" else letter for letter in text)


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
    marks = {mark: "\\" + mark for mark in "&%$#_{}"}
    marks |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    marks |= {"±": r"$\pm$", "<": r"$<$", ">": r"$>$"}
    return "".join(marks.get(letter, letter) for letter in text)


def save(texts: Mapping[Path, str]) -> None:
    """Write files whole. Raises SkipError where one cannot be written."""
    for file, text in texts.items():
        files.save(file, text.encode(), f"--out {file}")
