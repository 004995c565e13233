"""The reconstructed table, a pivot of the results: backbones and ratios down, tasks across."""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pandas as pd

from skip_exp.report import tables
from skip_exp.report.cells import backbone_notes, gather, ratio_text
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
TIMED = [f"latency/{name}" for name in ("batch", "seq_len", "dtype", "device", "threads")]
JOB = ["task", "backbone", "ratio", "seed"]
PLACE = ["backbone", "variant"]


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

    def answers(self, found: pd.DataFrame) -> pd.DataFrame:
        """The results, done or failed, of its jobs."""
        return found.merge(self.jobs, on=JOB)

    def count_done(self, answers: pd.DataFrame) -> int:
        """How many of its jobs have a finished result."""
        return len(answers.loc[answers["status"] == "done", JOB].drop_duplicates())


def rows(planned: Plan, answers: pd.DataFrame) -> pd.DataFrame:
    """Per backbone and variant a dense row, then one per ratio, as text.

    Cells without a result say so. ``answers``: the results of its jobs.
    """
    report = gather(answers)
    final = report.cells.rename(columns=lambda name: name.removeprefix("metric/final "))
    places = pd.DataFrame({"backbone": planned.backbones})
    places = places.merge(final[PLACE].drop_duplicates(), how="left").fillna({"variant": ""})
    keys = [
        (*place, ratio)
        for place, ratio in product(places.to_numpy().tolist(), ["dense", *planned.ratios])
    ]
    wanted = pd.MultiIndex.from_tuples(keys, names=[*PLACE, "ratio"])
    text = pd.DataFrame(index=wanted)
    for name in ("block", "all"):
        removed = report.runs.groupby([*PLACE, "ratio"])[f"params/{name}_pruned"].mean()
        text[f"{name} %"] = removed.reindex(wanted).map(percent)
    speeds = {key: _show_speed(group) for key, group in final.groupby([*PLACE, "ratio"])}
    text["speed-up"] = [speeds.get(key, "-") for key in keys]
    text.loc[wanted.get_level_values("ratio") == "dense", :] = ["0.0", "0.0", "1.00x"]

    every = pd.concat([_dense(report.runs, final), final], ignore_index=True)
    every["text"] = [_score(cell, len(planned.seeds)) for cell in every.to_dict("records")]
    scores = every.pivot_table("text", [*PLACE, "ratio"], "task", aggfunc="first")
    scores = scores.reindex(index=wanted, columns=planned.tasks).fillna("missing")
    metrics = final[final["metric"] != ""].groupby("task")["metric"].first()
    heads = {task: f"{task} ({metric})" for task, metric in metrics.items()}
    text = text.join(scores.rename(columns=heads)).reset_index()
    ratios = ["dense" if ratio == "dense" else ratio_text(ratio) for *_, ratio in keys]
    return tables.shorten(text.assign(ratio=ratios))


def _dense(runs: pd.DataFrame, final: pd.DataFrame) -> pd.DataFrame:
    """The dense scores as cells. They are the same for every ratio of a seed: they count once."""
    at = [*PLACE, "task", "sample"]
    once = runs.sort_values("ratio", kind="stable").drop_duplicates([*at, "seed"], keep="last")
    dense = once.groupby(at)["metric/dense"].agg(["mean", "std", "count"])
    dense = dense.rename(columns={"count": "n"})
    dense["at chance"] = final.groupby(at)["at chance"].any()
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


def _show_speed(cells: pd.DataFrame) -> str:
    """Mean over tasks, and their range: each task keeps other neurons."""
    means = cells["latency/speedup mean"].dropna()
    if means.empty:
        return "-"
    text = f"{means.mean():.2f}x"
    return text if len(means) == 1 else f"{text} ({means.min():.2f} to {means.max():.2f})"


def caption(planned: Plan, answers: pd.DataFrame) -> str:
    """What the reader must know."""
    done, count = answers[answers["status"] == "done"], len(planned.jobs)
    left = count - planned.count_done(answers)
    timed = answers.dropna(subset="latency/speedup")[TIMED].drop_duplicates()
    settings = [
        f"batch {batch:g}, {length:g} tokens, {dtype}, {device}, {threads:g} threads"
        for batch, length, dtype, device, threads in timed.to_numpy()
    ]
    texts = [f"{planned.title}."]
    if not planned.is_rehearsal:
        texts.append(ORIGIN)
    texts += [f"{planned.about}.", SCORE_COLUMNS.format(seeds=len(planned.seeds))]
    if settings:
        places = "; ".join(sorted(settings))
        texts.append(
            f"Speed-up: final against dense, mean over tasks (range); measured at {places}."
        )
    texts += backbone_notes(answers)
    if len(done):
        commits = done["git_commit"].str.replace(r"^(\w{12})\w*", r"\1", regex=True)  # keeps -dirty
        origins = [
            ", ".join(sorted(set(column.replace("", "unknown"))))
            for column in (done["data"], done["versions/torch"], commits)
        ]
        texts.append("Data: {}; torch {}; commit {}.".format(*origins))
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
