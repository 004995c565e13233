"""The reconstructed table: backbones and ratios down, tasks across."""

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

    @property
    def seeds(self) -> int:
        return int(self.grid.jobs["seed"].nunique())


def rows(table: Reconstruction) -> pd.DataFrame:
    """Text: a dense row per backbone, then one per ratio; cells without a result say so."""
    heads = {
        task: f"{task} ({next(iter(cfg['metrics']), '-')})"
        for task, cfg in table.grid.task_configs.items()
    }
    report, lines = gather(table.answers), []
    for backbone in table.grid.jobs["backbone"].unique():
        cells = report.cells[report.cells["backbone"] == backbone]
        runs = report.runs[report.runs["backbone"] == backbone]
        line = {"backbone": backbone, "ratio": DENSE, "block %": "0.0", "all %": "0.0"}
        scores = {head: _dense(table, cells, runs, task) for task, head in heads.items()}
        lines.append(line | {"speed-up": "1.00x"} | scores)
        for ratio in table.grid.jobs["ratio"].unique():
            at, of = cells[cells["ratio"] == ratio], runs[runs["ratio"] == ratio]
            line = {"backbone": backbone, "ratio": f"{ratio:g}"}
            line |= {"block %": percent(of["params/block_pruned"].mean())}
            line |= {"all %": percent(of["params/all_pruned"].mean()), "speed-up": _speed(at)}
            scores = {head: _final(table, at[at["task"] == task]) for task, head in heads.items()}
            lines.append(line | scores)
    return pd.DataFrame(lines)


def _dense(table: Reconstruction, cells: pd.DataFrame, runs: pd.DataFrame, task: str) -> str:
    """Dense is the same for every ratio of a seed: it counts once."""
    dense = runs[runs["task"] == task].sort_values("ratio", kind="stable")
    dense = dense.drop_duplicates("seed", keep="last")["metric/dense"]
    if dense.empty:
        return "missing"
    is_chance = cells.loc[cells["task"] == task, "at chance"].any()
    return _score(table, dense.mean(), dense.std(), is_chance, len(dense))


def _final(table: Reconstruction, cells: pd.DataFrame) -> str:
    for _, cell in cells.iterrows():  # one, or none
        mean, std = cell["metric/final mean"], cell["metric/final std"]
        return _score(table, mean, std, cell["at chance"], cell["n"]) if cell["n"] else "failed"
    return "missing"


def _score(table: Reconstruction, mean: float, std: float, is_chance: bool, done: int) -> str:
    marks = ["at chance"] if is_chance else []
    marks += [f"{done} of {table.seeds} seeds"] if done < table.seeds else []
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
    answers, left = table.answers, len(table.grid.remaining(table.answers))
    texts = [
        f"{table.title}.",
        "" if table.rehearsal else ABOUT,
        f"Profile {table.profile}: {table.why}.",
        f"Scores times 100 on the validation split, mean ± standard deviation over {table.seeds}"
        " seeds: dense after prompt tuning with nothing removed, the other rows after pruning and"
        " tuning again. ratio: fraction of the block parameters to remove; block %, all %: removed"
        " of the block parameters and of all. On BERT-base ratio 0.67 is the row of"
        ' "52 % of all parameters".',
        _timing(answers),
        "at chance: dense is not above the majority class by two standard errors.",
        *backbone_notes(answers),
        provenance(answers),
    ]
    if old := ((answers["status"] == "done") & ~is_current(answers)).sum():
        texts.append(f"OUTDATED: {old} results come from another version of the code.")
    if left:
        new = " of this version of the code" if old else ""
        texts.append(f"INCOMPLETE: {left} of {len(table.grid.jobs)} jobs have no result{new} yet.")
    return " ".join(filter(None, texts))


def _timing(answers: pd.DataFrame) -> str:
    names = [f"latency/{name}" for name in ("batch", "seq_len", "dtype", "device", "threads")]
    timed = answers.loc[answers["timed"] & ~answers["contended"], names]
    settings = {
        f"batch {batch:g}, {length:g} tokens, {dtype}, {device}, {threads:g} threads"
        for batch, length, dtype, device, threads in timed.to_numpy()
    }
    text = "Speed-up: final against dense, mean over tasks (range)"
    return f"{text}; measured at {'; '.join(sorted(settings))}." if settings else ""


def provenance(answers: pd.DataFrame) -> str:
    """Data, torch and commit of the finished results."""
    done = answers[answers["status"] == "done"]
    columns = (
        done["data"],
        done["versions/torch"].replace("", "?"),
        done["git_commit"].replace("", "unknown").str[:12],
    )
    data, torch, commits = (", ".join(sorted(set(column))) for column in columns)
    return f"Data: {data}; torch {torch}; commit {commits}." if len(done) else ""


def to_markdown(table: Reconstruction) -> str:
    """The table with its title above and its caption below."""
    return f"# {table.title}\n\n{tables.markdown(rows(table))}\n\n{caption(table)}\n"


def to_latex(table: Reconstruction) -> str:
    """A ``table`` environment (package: booktabs), a rule between backbones."""
    text = rows(table)
    starts = [row for row in text.index[text["ratio"] == DENSE] if row]
    return tables.latex(text, caption(table), rules=starts)
