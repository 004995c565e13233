"""The reconstructed table: backbones and ratios down, tasks across."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from skip_exp.config import schema
from skip_exp.report import tables
from skip_exp.report.cells import backbone_notes, gather
from skip_exp.report.grid import Grid, is_current
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
    ' and of all. On BERT-base ratio 0.67 is the row of "52 % of all parameters".'
)
CHANCE = "at chance: dense is not above the majority class by two standard errors."


@dataclass(frozen=True)
class Plan:
    """What is run, and why."""

    grid: Grid
    profile: str
    why: str  # this profile
    source: str  # data.source of every job
    overrides: list[str]

    @property
    def rehearsal(self) -> bool:
        """Whether the rows are embedded: then the table never has the title of the paper's."""
        return self.source == "embedded"

    @property
    def title(self) -> str:
        return REHEARSAL if self.rehearsal else RECONSTRUCTED

    @property
    def command(self) -> list[str]:
        sweep = ["--config-dir", str(schema.sweep_dir()), "--config-name", self.grid.name]
        return [sys.executable, "-m", "skip_exp", *sweep, *self.overrides]


def rows(plan: Plan, answers: pd.DataFrame) -> pd.DataFrame:
    """Per backbone and variant a dense row, then one per ratio, as text.

    Cells without a result say so. ``answers``: the results that belong to the plan's grid.
    """
    report, at = gather(answers), ["backbone", "variant"]
    found = report.cells[at].drop_duplicates()
    wanted = pd.DataFrame({"backbone": plan.grid.jobs["backbone"].unique()})
    places = wanted.merge(found, how="left").fillna({"variant": ""})
    lines = []
    for place in places.to_dict("records"):
        cells = report.cells[report.cells[at].eq(place).all(axis=1)]
        runs = report.runs[report.runs[at].eq(place).all(axis=1)]
        lines += [place | line for line in _block(plan.grid, cells, runs)]
    return tables.without_empty(pd.DataFrame(lines))


def _block(grid: Grid, cells: pd.DataFrame, runs: pd.DataFrame) -> Iterator[dict[str, str]]:
    """The rows of one backbone: dense, then every ratio."""
    configs, seeds = grid.task_configs, grid.jobs["seed"].nunique()
    heads = {task: f"{task} ({next(iter(cfg['metrics']), '-')})" for task, cfg in configs.items()}
    scores = {
        head: _dense(seeds, cells[cells["task"] == task], runs[runs["task"] == task])
        for task, head in heads.items()
    }
    yield {"ratio": "dense", "block %": "0.0", "all %": "0.0", "speed-up": "1.00x"} | scores
    for ratio in grid.jobs["ratio"].unique():
        at, of = cells[cells["ratio"] == ratio], runs[runs["ratio"] == ratio]
        yield {
            "ratio": f"{ratio:g}",
            "block %": percent(of["params/block_pruned"].mean()),
            "all %": percent(of["params/all_pruned"].mean()),
            "speed-up": _speed(at),
            **{head: _final(seeds, at[at["task"] == task]) for task, head in heads.items()},
        }


def _dense(seeds: int, cells: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Dense is the same for every ratio of a seed: it counts once."""
    dense = runs.sort_values("ratio", kind="stable").drop_duplicates("seed", keep="last")
    scores = dense["metric/dense"]
    is_chance = cells["at chance"].any()
    return _score(seeds, scores.mean(), scores.std(), is_chance, len(dense))


def _final(seeds: int, cells: pd.DataFrame) -> str:
    for _, cell in cells.iterrows():  # one, or none
        mean, std = cell["metric/final mean"], cell["metric/final std"]
        return _score(seeds, mean, std, cell["at chance"], cell["n"]) if cell["n"] else "failed"
    return "missing"


def _score(seeds: int, mean: float, std: float, is_chance: bool, done: int) -> str:
    if not done:
        return "missing"
    marks = ["at chance"] if is_chance else []
    marks += [f"{done} of {seeds} seeds"] if done < seeds else []
    return spread(mean, std) + (f" ({', '.join(marks)})" if marks else "")


def _speed(cells: pd.DataFrame) -> str:
    """Mean over tasks, and their range: each task keeps other neurons."""
    means = cells["latency/speedup mean"].dropna()
    if means.empty:
        return "contended" if cells["contended"].any() else "-"
    text = f"{means.mean():.2f}x"
    return text if len(means) == 1 else f"{text} ({means.min():.2f} to {means.max():.2f})"


def caption(plan: Plan, answers: pd.DataFrame) -> str:
    """What the reader must know."""
    seeds, left = plan.grid.jobs["seed"].nunique(), len(plan.grid.remaining(answers))
    done = answers[answers["status"] == "done"]
    old = (~is_current(done)).sum()
    new = " of this version of the code" if old else ""
    outdated = f"OUTDATED: {old} results come from another version of the code."
    incomplete = f"INCOMPLETE: {left} of {len(plan.grid.jobs)} jobs have no result{new} yet."
    texts = [
        f"{plan.title}.",
        "" if plan.rehearsal else ABOUT,
        f"Profile {plan.profile}: {plan.why}.",
        SCORES.format(seeds=seeds),
        _timing(answers),
        CHANCE,
        *backbone_notes(answers),
        _provenance(done),
        outdated if old else "",
        incomplete if left else "",
    ]
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


def _provenance(done: pd.DataFrame) -> str:
    """Data, torch and commit of the finished results."""
    commits = done["git_commit"].replace("", "unknown").str[:12]
    columns = done["data"], done["versions/torch"].replace("", "?"), commits
    data, torch, commit = (", ".join(sorted(set(column))) for column in columns)
    return f"Data: {data}; torch {torch}; commit {commit}." if len(done) else ""


def to_markdown(plan: Plan, answers: pd.DataFrame) -> str:
    """The table with its title above and its caption below."""
    table = tables.markdown(rows(plan, answers))
    return f"# {plan.title}\n\n{table}\n\n{caption(plan, answers)}\n"


def to_latex(plan: Plan, answers: pd.DataFrame) -> str:
    """The same as a ``table`` environment (package: booktabs)."""
    return tables.latex(rows(plan, answers), caption(plan, answers))
