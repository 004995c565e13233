"""The reconstructed table: backbones and ratios down, tasks across."""

from itertools import product
from typing import Any

import pandas as pd

from skip_exp.report import tables
from skip_exp.report.cells import backbone_notes, gather
from skip_exp.report.grid import Grid
from skip_exp.report.tables import percent, spread

REHEARSAL = "Rehearsal on embedded data: not the tasks of the paper's table"
RECONSTRUCTED = "Table 2, reconstructed"
ABOUT = (
    "The paper's own table was not available: backbones, tasks and ratios follow what is known of"
    " it, so this is a reconstruction, not a copy."
)
SCORES = (
    "Scores times 100 on the validation split, mean ± standard deviation over {seeds} seeds: dense"
    " after prompt tuning with nothing removed, the other rows after pruning and re-tuning. ratio:"
    " fraction of the block parameters to remove; block %, all %: removed of the block parameters"
    ' and of all. On BERT-base ratio 0.67 is the row of "52 % of all parameters". at chance: dense'
    " is not above the majority class by two standard errors."
)
TIMING = ("latency/batch", "latency/seq_len", "latency/dtype", "latency/device", "latency/threads")
PLACE = ["backbone", "variant"]


def title(grid: Grid) -> str:
    """Rows that come with the package never have the title of the paper's table."""
    return REHEARSAL if grid.is_rehearsal else RECONSTRUCTED


def rows(grid: Grid, answers: pd.DataFrame) -> pd.DataFrame:
    """Per backbone and variant a dense row, then one per ratio, as text.

    Cells without a result say so. ``answers``: the results that belong to the grid.
    """
    report = gather(answers)
    final = report.cells.rename(columns=lambda name: name.removeprefix("metric/final "))
    at = [*PLACE, "task"]
    # Dense is the same for every ratio of a seed: it counts once.
    runs = report.runs.sort_values("ratio", kind="stable")
    dense = runs.drop_duplicates([*at, "seed"], keep="last").groupby(at)["metric/dense"]
    dense = dense.agg(["mean", "std", "count"]).rename(columns={"count": "n"})
    dense["at chance"] = final.groupby(at)["at chance"].any()
    every = pd.concat([dense.reset_index().assign(ratio="dense"), final], ignore_index=True)
    seeds = grid.jobs["seed"].nunique()
    every["text"] = [_score(row, seeds) for row in every.to_dict("records")]
    scores = every.pivot_table("text", [*PLACE, "ratio"], "task", aggfunc="first")

    places = pd.DataFrame({"backbone": grid.jobs["backbone"].unique()})
    places = places.merge(final[PLACE].drop_duplicates(), how="left").fillna({"variant": ""})
    ratios = ["dense", *grid.jobs["ratio"].unique()]
    keys = [(*place, ratio) for place, ratio in product(places.to_numpy().tolist(), ratios)]
    wanted = pd.MultiIndex.from_tuples(keys, names=[*PLACE, "ratio"])
    text = pd.DataFrame(index=wanted)
    for name in ("block", "all"):
        removed = runs.groupby([*PLACE, "ratio"])[f"params/{name}_pruned"].mean()
        text[f"{name} %"] = removed.reindex(wanted).map(percent)
    speeds = {key: _speed(group) for key, group in final.groupby([*PLACE, "ratio"])}
    text["speed-up"] = [speeds.get(key, "-") for key in keys]
    text.loc[wanted.get_level_values("ratio") == "dense", :] = ["0.0", "0.0", "1.00x"]
    scores = scores.reindex(index=wanted, columns=list(grid.heads)).fillna("missing")
    text = text.join(scores.rename(columns=grid.heads)).reset_index()
    return tables.without_empty(text.assign(ratio=text["ratio"].map(_ratio)))


def _ratio(ratio: str | float) -> str:
    return ratio if isinstance(ratio, str) else f"{ratio:g}"


def _score(cell: dict[str, Any], seeds: int) -> str:
    if not cell["n"]:
        return "failed"
    marks = ["at chance"] if cell["at chance"] else []
    marks += [f"{cell['n']} of {seeds} seeds"] if cell["n"] < seeds else []
    return spread(cell["mean"], cell["std"]) + (f" ({', '.join(marks)})" if marks else "")


def _speed(cells: pd.DataFrame) -> str:
    """Mean over tasks, and their range: each task keeps other neurons."""
    means = cells["latency/speedup mean"].dropna()
    if means.empty:
        contended = bool(cells["contended"].any())
        return tables.speed(float("nan"), contended, cells["flops/ratio mean"].mean())
    text = f"{means.mean():.2f}x"
    return text if len(means) == 1 else f"{text} ({means.min():.2f} to {means.max():.2f})"


def caption(grid: Grid, answers: pd.DataFrame) -> str:
    """What the reader must know."""
    seeds, left = grid.jobs["seed"].nunique(), len(grid.remaining(answers))
    done = answers[answers["status"] == "done"]
    timed = answers.loc[answers["timed"] & ~answers["contended"], list(TIMING)].drop_duplicates()
    settings = [
        f"batch {batch:g}, {length:g} tokens, {dtype}, {device}, {threads:g} threads"
        for batch, length, dtype, device, threads in timed.to_numpy()
    ]
    speed = "Speed-up: final against dense, mean over tasks (range); measured at "
    old = (~grid.is_current(done)).sum()
    new = " of this version of the code" if old else ""
    texts = [
        f"{title(grid)}.",
        "" if grid.is_rehearsal else ABOUT,
        f"{grid.about}.",
        SCORES.format(seeds=seeds),
        f"{speed}{'; '.join(sorted(settings))}." if settings else "",
        *backbone_notes(answers),
        _provenance(done) if len(done) else "",
        f"OUTDATED: {old} results come from another version of the code." if old else "",
        f"INCOMPLETE: {left} of {len(grid.jobs)} jobs have no result{new} yet." if left else "",
    ]
    return " ".join(filter(None, texts))


def _provenance(done: pd.DataFrame) -> str:
    """Data, torch and commit of the finished results."""
    commits = done["git_commit"].str.replace(r"^(\w{12})\w*", r"\1", regex=True)  # keeps -dirty
    columns = done["data"], done["versions/torch"], commits
    known = (", ".join(sorted(set(column.replace("", "unknown")))) for column in columns)
    return "Data: {}; torch {}; commit {}.".format(*known)


def to_markdown(grid: Grid, answers: pd.DataFrame) -> str:
    """The table with its title above and its caption below."""
    table = tables.markdown(rows(grid, answers))
    return f"# {title(grid)}\n\n{table}\n\n{caption(grid, answers)}\n"


def to_latex(grid: Grid, answers: pd.DataFrame) -> str:
    """The same as a ``table`` environment (package: booktabs)."""
    return tables.latex(rows(grid, answers), caption(grid, answers))
