"""The reconstructed table, a pivot of the results: backbones and ratios down, tasks across."""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pandas as pd

from skip_exp.report import tables
from skip_exp.report.cells import backbone_notes, gather, join_values
from skip_exp.report.tables import SAMPLE, percent, spread

REHEARSAL = "Rehearsal on embedded data: not the tasks of the paper's table"
RECONSTRUCTED = "Table 2, reconstructed"
ORIGIN = (
    "The paper's own table was not available: backbones, tasks and ratios follow what is known of"
    " it, so this is a reconstruction, not a copy."
)
SCORE_COLUMNS = (
    "Scores in percent on the validation split, mean ± standard deviation over {seeds} seeds: dense"
    " after prompt tuning with nothing removed, the other rows after pruning and re-tuning. ratio:"
    " fraction of the block parameters to remove; block %, all %: removed of the block parameters"
    ' and of all. On BERT-base ratio 0.67 is the row of "52 % of all parameters". at chance: dense'
    " is not above the majority class by two standard errors. stand-in: rows of another data set."
)
TIMING = "batch {:g}, {:g} tokens, {}, {}, {:g} threads"  # the values of TIMED
TIMED = [f"latency/{name}" for name in ("batch", "seq_len", "dtype", "device", "threads")]
JOB = ["task", "backbone", "ratio", "seed"]
MODEL = ["backbone", "variant"]
LINE = ["backbone", "variant", "ratio"]


@dataclass(frozen=True)
class Plan:
    """A sweep and the cells of its table: backbones and ratios down, tasks across.

    Attributes:
        about: its profile, recipe and data.
        name: of its file.
        overrides: what its jobs are given beside the file.
    """

    tasks: list[str]
    backbones: list[str]
    ratios: list[float]
    seeds: list[int]
    about: str = ""
    is_rehearsal: bool = False
    name: str = ""
    overrides: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Rows that come with the package never have the title of the paper's table."""
        return REHEARSAL if self.is_rehearsal else RECONSTRUCTED

    @property
    def jobs(self) -> pd.DataFrame:
        """A row per job, columns JOB."""
        points = product(self.tasks, self.backbones, self.ratios, self.seeds)
        return pd.DataFrame(points, columns=JOB).astype({"ratio": float, "seed": "Int64"})

    def answers(self, results: pd.DataFrame) -> pd.DataFrame:
        """The results, done or failed, of its jobs."""
        return results.merge(self.jobs, on=JOB)

    def count_done(self, answers: pd.DataFrame) -> int:
        """How many of its jobs have a finished result."""
        return len(answers.loc[answers["status"] == "done", JOB].drop_duplicates())


def rows(planned: Plan, answers: pd.DataFrame) -> pd.DataFrame:
    """Per backbone and variant a dense row, then one per ratio, as text.

    Cells without a result say so. ``answers``: the results of its jobs.
    """
    report = gather(answers)
    final = report.cells.rename(columns=lambda name: name.removeprefix("metric/final "))
    # The lines of the plan, whether they have results or not.
    lines = pd.DataFrame({"backbone": planned.backbones})
    lines = lines.merge(final[MODEL].drop_duplicates(), how="left").fillna({"variant": ""})
    lines = lines.merge(pd.DataFrame({"ratio": ["dense", *planned.ratios]}), how="cross")
    wanted = pd.MultiIndex.from_frame(lines)
    text = pd.DataFrame(index=wanted)
    for name in ("block", "all"):
        removed = report.runs.groupby(LINE)[f"params/{name}_pruned"].mean()
        text[f"{name} %"] = removed.reindex(wanted).map(percent)
    speeds = final.groupby(LINE)["latency/speedup mean"].agg(["mean", "min", "max", "count"])
    text["speed-up"] = speeds.reindex(wanted).apply(_show_speed, axis=1)
    text.loc[wanted.get_level_values("ratio") == "dense", :] = ["0.0", "0.0", "1.00x"]

    # A column for each task, named with its metric.
    cells = pd.concat([_dense(report.runs, final), final], ignore_index=True)
    cells["text"] = [_score(cell, len(planned.seeds)) for cell in cells.to_dict("records")]
    scores = cells.pivot_table("text", LINE, "task", aggfunc="first")
    scores = scores.reindex(index=wanted, columns=planned.tasks).fillna("missing")
    metrics = final.groupby("task")["metric"].first()
    scores = scores.rename(columns=metrics.index + " (" + metrics + ")")
    text = text.join(scores).reset_index()
    text["ratio"] = text["ratio"].map("{}".format)
    return tables.shorten(text)


def _dense(runs: pd.DataFrame, final: pd.DataFrame) -> pd.DataFrame:
    """The dense scores as cells. They are the same for every ratio of a seed: they count once."""
    keys = ["backbone", "variant", "task", "sample"]
    once = runs.sort_values("ratio", kind="stable").drop_duplicates([*keys, "seed"], keep="last")
    dense = once.groupby(keys)["metric/dense"].agg(["mean", "std", "count"])
    dense = dense.rename(columns={"count": "n"})
    dense["at chance"] = final.groupby(keys)["at chance"].any()
    return dense.reset_index().assign(ratio="dense")


def _score(cell: dict[str, Any], seeds: int) -> str:
    marks = []
    if cell["sample"]:
        marks.append(SAMPLE)
    if cell["at chance"]:
        marks.append("at chance")
    if cell["n"] < seeds:
        marks.append(f"{cell['n']} of {seeds} seeds")
    score = spread(cell["mean"], cell["std"])
    return f"{score} ({', '.join(marks)})" if marks else score


def _show_speed(speeds: pd.Series) -> str:
    """Mean over tasks, and their range: each task keeps other neurons."""
    if not speeds["count"] > 0:
        return "-"
    text = f"{speeds['mean']:.2f}x"
    return text if speeds["count"] == 1 else f"{text} ({speeds['min']:.2f} to {speeds['max']:.2f})"


def caption(planned: Plan, answers: pd.DataFrame) -> str:
    """What the reader must know."""
    done = answers[answers["status"] == "done"]
    count = len(planned.jobs)
    left = count - planned.count_done(answers)
    texts = [f"{planned.title}."]
    if not planned.is_rehearsal:
        texts.append(ORIGIN)
    texts += [f"{planned.about}.", SCORE_COLUMNS.format(seeds=len(planned.seeds))]
    timed = answers.dropna(subset="latency/speedup")[TIMED].drop_duplicates()
    if len(timed):
        settings = "; ".join(sorted(timed.apply(lambda row: TIMING.format(*row), axis=1)))
        texts.append(
            f"Speed-up: final against dense, mean over tasks (range); measured at {settings}."
        )
    texts += backbone_notes(answers)
    if len(done):
        commits = done["git_commit"].str.replace(r"^(\w{12})\w*", r"\1", regex=True)  # keeps -dirty
        texts.append(
            f"Data: {join_values(done['data'])}; torch {join_values(done['versions/torch'])}; "
            f"commit {join_values(commits) or 'unknown'}."
        )
    if done["versions/code"].nunique() > 1:
        texts.append("MIXED: the results come from several versions of the code.")
    if left:
        texts.append(f"INCOMPLETE: {left} of {count} jobs have no result yet.")
    return " ".join(texts)


def to_markdown(planned: Plan, answers: pd.DataFrame) -> str:
    """The table with its title above and its caption below."""
    about = tables.escape_markdown(caption(planned, answers))
    return f"# {planned.title}\n\n{tables.markdown(rows(planned, answers))}\n\n{about}\n"


def to_latex(planned: Plan, answers: pd.DataFrame) -> str:
    """The same as a ``table`` environment (package: booktabs)."""
    return tables.latex(rows(planned, answers), caption(planned, answers))
