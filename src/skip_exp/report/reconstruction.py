"""The reconstructed table: backbones and ratios down, tasks across."""

import sys
from dataclasses import dataclass

import pandas as pd

from skip_exp.config import schema
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
class Plan:
    """What is run, and why."""

    grid: Grid
    profile: str
    why: str  # this profile
    source: str  # data.source of every job
    overrides: list[str]

    @property
    def rehearsal(self) -> bool:
        """Then the table never carries the name of the paper's."""
        return self.source == "sample"

    @property
    def title(self) -> str:
        return REHEARSAL if self.rehearsal else RECONSTRUCTED

    @property
    def command(self) -> list[str]:
        sweep = ["--config-dir", str(schema.sweep_dir()), "--config-name", self.grid.name]
        return [sys.executable, "-m", "skip_exp", *sweep, *self.overrides]


def rows(plan: Plan, answers: pd.DataFrame) -> pd.DataFrame:
    """Text: a dense row per backbone, then one per ratio; cells without a result say so.

    ``answers``: the results that belong to the plan's grid.
    """
    heads = {
        task: f"{task} ({next(iter(cfg['metrics']), '-')})"
        for task, cfg in plan.grid.task_configs.items()
    }
    report, lines, seeds = gather(answers), [], plan.grid.jobs["seed"].nunique()
    for backbone in plan.grid.jobs["backbone"].unique():
        cells = report.cells[report.cells["backbone"] == backbone]
        runs = report.runs[report.runs["backbone"] == backbone]
        line = {"backbone": backbone, "ratio": DENSE, "block %": "0.0", "all %": "0.0"}
        scores = {head: _dense(seeds, cells, runs, task) for task, head in heads.items()}
        lines.append(line | {"speed-up": "1.00x"} | scores)
        for ratio in plan.grid.jobs["ratio"].unique():
            at, of = cells[cells["ratio"] == ratio], runs[runs["ratio"] == ratio]
            line = {"backbone": backbone, "ratio": f"{ratio:g}"}
            line |= {"block %": percent(of["params/block_pruned"].mean())}
            line |= {"all %": percent(of["params/all_pruned"].mean()), "speed-up": _speed(at)}
            scores = {head: _final(seeds, at[at["task"] == task]) for task, head in heads.items()}
            lines.append(line | scores)
    return pd.DataFrame(lines)


def _dense(seeds: int, cells: pd.DataFrame, runs: pd.DataFrame, task: str) -> str:
    """Dense is the same for every ratio of a seed: it counts once."""
    dense = runs[runs["task"] == task].sort_values("ratio", kind="stable")
    dense = dense.drop_duplicates("seed", keep="last")["metric/dense"]
    if dense.empty:
        return "missing"
    is_chance = cells.loc[cells["task"] == task, "at chance"].any()
    return _score(seeds, dense.mean(), dense.std(), is_chance, len(dense))


def _final(seeds: int, cells: pd.DataFrame) -> str:
    for _, cell in cells.iterrows():  # one, or none
        mean, std = cell["metric/final mean"], cell["metric/final std"]
        return _score(seeds, mean, std, cell["at chance"], cell["n"]) if cell["n"] else "failed"
    return "missing"


def _score(seeds: int, mean: float, std: float, is_chance: bool, done: int) -> str:
    marks = ["at chance"] if is_chance else []
    marks += [f"{done} of {seeds} seeds"] if done < seeds else []
    return spread(mean, std) + (f" ({', '.join(marks)})" if marks else "")


def _speed(cells: pd.DataFrame) -> str:
    """Mean over tasks, and their range: what is kept differs, so does its speed."""
    means = cells["latency/speedup mean"].dropna()
    if means.empty:
        return "contended" if cells["contended"].any() else "-"
    text = f"{means.mean():.2f}x"
    return text if len(means) == 1 else f"{text} ({means.min():.2f} to {means.max():.2f})"


def caption(plan: Plan, answers: pd.DataFrame) -> str:
    """What the reader must know."""
    seeds, left = plan.grid.jobs["seed"].nunique(), len(plan.grid.remaining(answers))
    texts = [
        f"{plan.title}.",
        "" if plan.rehearsal else ABOUT,
        f"Profile {plan.profile}: {plan.why}.",
        f"Scores times 100 on the validation split, mean ± standard deviation over {seeds}"
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
        texts.append(f"INCOMPLETE: {left} of {len(plan.grid.jobs)} jobs have no result{new} yet.")
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


def to_markdown(plan: Plan, answers: pd.DataFrame) -> str:
    """The table with its title above and its caption below."""
    table = tables.markdown(rows(plan, answers))
    return f"# {plan.title}\n\n{table}\n\n{caption(plan, answers)}\n"


def to_latex(plan: Plan, answers: pd.DataFrame) -> str:
    """A ``table`` environment (package: booktabs), a rule between backbones."""
    text = rows(plan, answers)
    starts = [row for row in text.index[text["ratio"] == DENSE] if row]
    return tables.latex(text, caption(plan, answers), rules=starts)
