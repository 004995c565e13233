"""The matrices of an anatomy: what is kept by layer, what tasks share, and what cuts cost."""

import pandas as pd

from skip_exp.models.sites import Site
from skip_exp.report.page import Shaded

GRID = 10  # shades of a matrix
ABOUT = ("task", "backbone", "seed")


def where(table: pd.DataFrame, ratio: float) -> list[Shaded]:
    """Percent kept by layer, per backbone and kind of neuron, of each job nearest to ``ratio``."""
    cut = nearest(table, ratio).assign(share=lambda t: t["kept"] / t["of"])
    shaded = []
    for (backbone, kind), part in cut.groupby(["backbone", "kind"], sort=False):
        grouped = part.groupby(["task", "layer"], sort=False)["share"]
        mean, std = (grouped.agg(how).unstack() for how in ("mean", "std"))
        rows = []
        for task in mean.index:
            cells = zip(mean.loc[task], std.loc[task], strict=True)
            rows.append((str(task), [_cell(m, _spread(m, s)) for m, s in cells]))
        title = f"{kind_of(str(kind))} · {backbone} · {ratios_of(part)} cut"
        shaded.append(Shaded(title, list(map(str, mean.columns)), rows))
    return shaded


def nearest(table: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """The rows of each task, backbone and seed at the cut that is nearest to ``ratio``."""
    cut = table[table["ratio"] > 0]
    cut = cut.assign(off=(cut["ratio"] - ratio).abs())
    least = cut.groupby([*ABOUT])["off"].transform("min")
    return cut[cut["off"] == least].drop(columns="off")


def ratios_of(table: pd.DataFrame) -> str:
    """``90 %``, or ``70 to 90 %``."""
    low, high = 100 * table["ratio"].min(), 100 * table["ratio"].max()
    return f"{low:g} %" if low == high else f"{low:g} to {high:g} %"


def kind_of(like: str) -> str:
    """``encoder.self.heads`` is ``encoder heads``; ``decoder.cross.heads`` names the cross."""
    site = Site(like.replace(".", ".0.", 1))
    cross = "cross " if site.sublayer.part == "cross" else ""
    return f"{site.sublayer.stack} {cross}{site.kind}"


def _spread(mean: float, std: float) -> str:
    """``12``, and in small print the seeds' deviation."""
    small = "" if pd.isna(std) else f"<small>± {100 * std:.0f}</small>"
    return f"{100 * mean:.0f}{small}"


def _cell(value: float, text: str, most: float = 1.0) -> tuple[int, str] | None:
    """Shade and text; below zero is as white as zero."""
    if pd.isna(value):
        return None
    return round(GRID * min(max(value / most, 0.0), 1.0)), text


def overlap(table: pd.DataFrame) -> list[Shaded]:
    """Overlap of each two jobs, by backbone and kind; of several seeds, each with its own row."""
    jobs = table[table["between"] == "jobs"]
    shaded = []
    for (backbone, kind), part in jobs.groupby(["backbone", "kind"], sort=False):
        several = part["seed"].nunique() > 1
        names = {}
        for task, seed in part[["task", "seed"]].drop_duplicates().itertuples(index=False):
            names[(task, seed)] = f"{task} {seed}" if several else str(task)
        values = {}
        for row in part.to_dict("records"):
            ends = (row["task"], row["seed"]), (row["other task"], int(row["other seed"]))
            values[ends] = values[ends[::-1]] = row["overlap"]
        rows = [(name, [_number(values.get((a, b))) for b in names]) for a, name in names.items()]
        shaded.append(Shaded(f"{kind_of(str(kind))} · {backbone}", list(names.values()), rows))
    return shaded


def _number(value: float | None) -> tuple[int, str] | None:
    return None if value is None else _cell(value, decimals(value))


def decimals(value: float) -> str:
    """``0.12``, or a dash where there is no number."""
    return "-" if pd.isna(value) else f"{value:.2f}".replace("-0.00", "0.00")


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """A transfer's rows with ``gain``: the score above the mean of the task's random draws.

    Every owner's skill has a draw with as many neurons of each layer. Their mean is steadier than
    any of them: draws of one task differ by up to 15 points (studies/results/anatomy).
    """
    keys = [*ABOUT, "ratio", "rows"]
    random = table[table["is_random"]].groupby(keys)["score"].mean().rename("random")
    found = table[~table["is_random"]].join(random, on=keys)
    return found.assign(gain=found["score"] - found["random"])


def transfers(table: pd.DataFrame) -> list[Shaded]:
    """A matrix for each ratio and number of rows."""
    parts = gains(table).groupby(["ratio", "rows"], sort=False)
    return [
        matrix._replace(title=f"{matrix.title} · {100 * ratio:g} % cut, {rows:,} rows")
        for (ratio, rows), part in parts
        for matrix in matrices(part, "kept", "gain")
    ]


def causals(table: pd.DataFrame) -> list[Shaded]:
    """A matrix for each answer, on one scale; its first row has the dense models' scores."""
    most, shaded = 100 * float(table["harm"].max()), []
    for answer, part in table.groupby("answer", sort=False):
        for matrix in matrices(part, "cut", "harm", most):
            of = part[part["backbone"] == matrix.title]
            dense = 100 * of.groupby("task")["dense"].mean()
            cells: list[tuple[int, str] | None] = [(0, f"{dense[t]:.1f}") for t in matrix.columns]
            title = f"{matrix.title} · they answer {'zero' if answer == 'zero' else 'their mean'}"
            shaded.append(Shaded(title, matrix.columns, [("nothing", cells), *matrix.rows]))
    return shaded


def matrices(
    table: pd.DataFrame, owner: str, value: str, most: float | None = None
) -> list[Shaded]:
    """One matrix a backbone, in points, mean over seeds: ``owner`` in rows, task in columns.

    The small print of a cell has the scores that ``value`` is the difference of, random first.
    """
    most = max(100 * float(table[value].max()) if most is None else most, 1e-9)
    shaded = []
    for backbone, part in table.groupby("backbone", sort=False):
        of = 100 * part.pivot_table([value, "random", "score"], owner, "task", sort=False)
        means = of[value]
        order = [task for task in means.columns if task in means.index]
        order += [name for name in means.index if name not in order]
        rows = []
        for name in order:
            ends = zip(means.loc[name], of["random"].loc[name], of["score"].loc[name], strict=True)
            cells = [
                _cell(v, f"{v:+.1f}<small>{a:.0f} → {b:.0f}</small>", most) for v, a, b in ends
            ]
            rows.append((str(name), cells))
        shaded.append(Shaded(str(backbone), list(map(str, means.columns)), rows))
    return shaded
