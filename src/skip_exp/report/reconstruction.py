"""Layout of the reconstructed table: backbones and ratios down, tasks across."""

from dataclasses import dataclass

import pandas as pd

from skip_exp.report import tables
from skip_exp.report.cells import backbone_notes, gather
from skip_exp.report.grid import Grid, is_current
from skip_exp.report.tables import percent, spread

DENSE = "dense"
REHEARSAL = "Rehearsal on generated data: no figure here says anything about the method"
RECONSTRUCTED = "Table 2, reconstructed"
ABOUT = (
    "The paper's own table was not at hand: backbones, tasks and ratios are set by what is known of"
    " it, so this is a reconstruction, not a copy."
)


@dataclass(frozen=True)
class Reconstruction:
    """What the table shows."""

    grid: Grid
    answers: pd.DataFrame  # the results that belong to the grid
    profile: str
    why: str  # this profile
    rehearsal: bool  # then it never carries the name of the paper's table

    @property
    def title(self) -> str:
        return REHEARSAL if self.rehearsal else RECONSTRUCTED


def rows(table: Reconstruction) -> pd.DataFrame:
    """Text: a dense row per backbone, then one per ratio; cells without a result say so."""
    grid, report = table.grid, gather(table.answers)
    lines = []
    for backbone in grid.backbones:
        cells = report.cells[report.cells["backbone"] == backbone]
        runs = report.runs[report.runs["backbone"] == backbone]
        line = {"backbone": backbone, "ratio": DENSE, "block %": "0.0", "all %": "0.0"}
        scores = {_head(grid, task): _dense(grid, cells, runs, task) for task in grid.tasks}
        lines.append(line | {"speed-up": "1.00x"} | scores)
        for ratio in grid.ratios:
            at, of = cells[cells["ratio"] == ratio], runs[runs["ratio"] == ratio]
            line = {"backbone": backbone, "ratio": f"{ratio:g}"}
            line |= {"block %": percent(of["params/block_pruned"].mean())}
            line |= {"all %": percent(of["params/all_pruned"].mean()), "speed-up": _speed(at)}
            lines.append(line | {_head(grid, task): _score(grid, at, task) for task in grid.tasks})
    return pd.DataFrame(lines)


def _head(grid: Grid, task: str) -> str:
    return f"{task} ({grid.metric(task)})"


def _dense(grid: Grid, cells: pd.DataFrame, runs: pd.DataFrame, task: str) -> str:
    """Dense is the same for every ratio of a seed: it counts once."""
    dense = runs[runs["task"] == task].sort_values("ratio", kind="stable")
    dense = dense.drop_duplicates("seed", keep="last")["metric/dense"]
    if dense.empty:
        return "missing"
    chance = cells.loc[cells["task"] == task, "at chance"].any()
    return _marked(dense.mean(), dense.std(), chance, len(dense), grid)


def _score(grid: Grid, cells: pd.DataFrame, task: str) -> str:
    cells = cells[cells["task"] == task]
    if cells.empty:
        return "missing"
    cell = cells.iloc[0]
    if not cell["n"]:
        return "failed"
    mean, std = cell["metric/final mean"], cell["metric/final std"]
    return _marked(mean, std, cell["at chance"], cell["n"], grid)


def _marked(mean: float, std: float, chance: bool, done: int, grid: Grid) -> str:
    seeds = len(grid.seeds)
    marks = ["at chance"] if chance else []
    marks += [f"{done} of {seeds} seeds"] if done < seeds else []
    return spread(mean, std) + (f" ({', '.join(marks)})" if marks else "")


def _speed(cells: pd.DataFrame) -> str:
    """Mean over tasks, and their range: what is kept differs, so does its speed."""
    means = cells["latency/speedup mean"].dropna()
    if means.empty:
        return "contended" if cells["contended"].any() else "-"
    text = f"{means.mean():.2f}x"
    return text if len(means) == 1 else f"{text} ({means.min():.2f} to {means.max():.2f})"


def caption(table: Reconstruction) -> str:
    """What the reader must know."""
    grid, answers, left = table.grid, table.answers, len(table.grid.remaining(table.answers))
    said = [f"{table.title}.", "" if table.rehearsal else ABOUT]
    said += [
        f"Profile {table.profile}: {table.why}.",
        f"Scores times 100 on the validation split, mean ± standard deviation over"
        f" {len(grid.seeds)} seeds: dense after prompt tuning with nothing removed, the other rows"
        " after pruning and tuning again. ratio: fraction of the block parameters to remove;"
        " block %, all %: removed of the block parameters and of all. On BERT-base ratio 0.67 is"
        ' the row of "52 % of all parameters".',
        _timing(answers),
        "at chance: dense is not above the majority class by two standard errors.",
        *backbone_notes(answers),
        provenance(answers),
    ]
    old = ((answers["status"] == "done") & ~is_current(answers)).sum()
    if old:
        said.append(f"OUTDATED: {old} results come from another version of the code.")
    if left:
        new = " of this version of the code" if old else ""
        said.append(f"INCOMPLETE: {left} of {len(grid.jobs)} jobs have no result{new} yet.")
    return " ".join(part for part in said if part)


def _timing(answers: pd.DataFrame) -> str:
    names = ["batch", "seq_len", "dtype", "device", "threads"]
    timed = answers[answers["timed"] & ~answers["contended"]]
    settings = {
        f"batch {batch:g}, {length:g} tokens, {dtype}, {device}, {threads:g} threads"
        for batch, length, dtype, device, threads in timed[
            [f"latency/{n}" for n in names]
        ].to_numpy()
    }
    text = "Speed-up: final against dense, mean over tasks (range)"
    return f"{text}; measured at {'; '.join(sorted(settings))}." if settings else ""


def provenance(answers: pd.DataFrame) -> str:
    """Data, torch and commit of the finished results."""
    done = answers[answers["status"] == "done"]
    if done.empty:
        return ""
    data = ", ".join(sorted(set(done["data"])))
    torch = ", ".join(sorted(set(done["versions/torch"].replace("", "?"))))
    commits = ", ".join(sorted(set(done["git_commit"].replace("", "unknown").str[:12])))
    return f"Data: {data}; torch {torch}; commit {commits}."


def to_markdown(table: Reconstruction) -> str:
    """The table with its title above and its caption below."""
    return f"# {table.title}\n\n{tables.markdown(rows(table))}\n\n{caption(table)}\n"


def to_latex(table: Reconstruction) -> str:
    """A ``table`` environment (package: booktabs), a rule between backbones."""
    text = rows(table)
    starts = [row for row in text.index[text["ratio"] == DENSE] if row]
    return tables.latex(text, caption(table), rules=starts)
