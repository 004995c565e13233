"""``python -m studies.within``: every form of finished cuts, and cascades of them, side by side.

    python -m studies.within outputs/evidence outputs/uncut
    python -m studies.within --table

For each task and seed below the folders, all skills are opened in every form, timed in turns on 400
texts, and scored; so are the cascades that `prune.within` would choose for several bounds. The rows
go to results/within.csv. Speeds are relative to the fastest uncut form of the same run. Data is
read from the folder in SKIP_EXP_DATA.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from skip_exp.config.compose import compose_config
from skip_exp.config.together import job_config
from skip_exp.phases.prepare import prepare
from skip_exp.report import frame
from skip_exp.report.tables import pipe_rows
from skip_exp.skill.forms import megabytes
from skip_exp.utils.machine import git_commit, processor
from skip_exp.within import measure, run, show
from skip_exp.within.choose import FITTED, Candidate, add_errors, choose, list_candidates
from skip_exp.within.scores import Split
from studies.evidence import CONF, TITLES

ROWS = Path(__file__).parent / "results/within.csv"
FIGURE = Path(__file__).parents[1] / "docs/within.png"
FORMS = {"fp32": ("#666666", "o"), "bf16": ("#d9822b", "s"), "int8": ("#1b4f8f", "D")}
BOUNDS = (0.0, 0.5, 1.0, 1.5)  # points
KEYS = ["task", "seed"]


def main() -> int:
    made = argparse.ArgumentParser(prog="python -m studies.within", description=__doc__)
    made.add_argument("folders", nargs="*", type=Path, help="of finished jobs")
    made.add_argument("--tasks", nargs="+", help="fewer than all")
    made.add_argument("--out", type=Path, default=Path("outputs/within"), help="of 8-bit exports")
    made.add_argument("--rows", type=Path, default=ROWS, help="file of the rows")
    made.add_argument("--table", action="store_true", help="print the table, draw docs/within.png")
    asked = made.parse_args()
    if asked.table:
        rows = relative(pd.read_csv(asked.rows))
        print(pipe_rows(table(rows)))
        draw(rows[rows["task"] == "sst2"]).savefig(FIGURE, dpi=160)
        return 0
    os.environ.setdefault(run.KERNELS, "65536")
    jobs = frame.load(asked.folders)
    for (task, seed), part in jobs.groupby(KEYS):
        if task in (asked.tasks or [task]) and 0 in set(part["ratio"]):
            skills = {row.ratio: Path(row.path).parent / "skill" for row in part.itertuples()}
            exports = asked.out / f"{task}-{seed}"
            found = pd.DataFrame(describe_all(str(task), skills, exports))
            here = {"processor": processor(), "commit": git_commit()}
            add(found.assign(task=task, seed=seed, **here), asked.rows)
    return 0


def describe_all(task: str, skills: dict[float, Path], exports: Path) -> Iterator[dict[str, Any]]:
    """A row per form of a skill, and per bound the choice: scores in percent, texts a second."""
    settings = [f"+task={task}", "logger=none", f"hydra.searchpath=[file://{CONF.resolve()}]"]
    rows = prepare(job_config(compose_config("config", settings))).data
    select, validation = Split.of(rows, rows.select), Split.of(rows, rows.validation)
    texts = [*select.texts, *validation.texts][: measure.TIMED_TEXTS]
    models, _, contended = measure.measure(skills, None, select, texts, exports)
    answers = {model: measure.ask(classifier, validation) for model, classifier in models.items()}
    (uncut,) = (each for each in models if (each.ratio, each.form) == (0.0, "fp32"))

    def describe(each: Candidate, bound: float | None) -> dict[str, Any]:
        predicted = measure.candidate_line(each, False, answers, models).predicted
        return {
            "bound": bound,
            "model": show.name(each),
            "sent_on": " + ".join(f"{share:.3f}" for share in each.sent_on),
            "select": round(100 * each.select, 2),
            "error": round(100 * each.error, 2),
            "validation": round(100 * validation.score(predicted), 2),
            "texts_per_s": round(each.speed, 1),
            "spread": each.spread and round(each.spread, 1),
            "mb": round(sum(megabytes(models[model]) for model in each.models), 1),
            "contended": contended,
        }

    best = select.score(uncut.answers.predicted)
    for bound in BOUNDS:
        fitted = best - FITTED * bound / 100
        candidates = add_errors(list_candidates([*models], select.score, fitted), uncut, select)
        if bound == 0:
            for each in candidates:
                if len(each.models) == 1:
                    yield describe(each, None)
        yield describe(choose(candidates, best - bound / 100), bound)
        free = [each for each in candidates if each.select >= best - bound / 100]
        yield describe(max(free, key=lambda each: each.speed), bound) | {"rule": "no error"}


def add(found: pd.DataFrame, path: Path) -> None:
    """Put rows among those of the file, in place of older ones of their task and seed."""
    if path.is_file():
        old = pd.read_csv(path)
        again = (old[KEYS] == found[KEYS].iloc[0]).all(axis=1)
        found = pd.concat([old[~again], found])
    found.to_csv(path, index=False, lineterminator="\n")


def relative(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``what`` they are, and their speed over the fastest uncut form's."""
    rows = rows[rows["rule"].isna()].copy()
    is_choice = rows["bound"].notna()
    uncut = rows[rows["model"].str.match("uncut, [a-z0-9]+$") & ~is_choice]
    rows = rows.join(uncut.groupby(KEYS)["texts_per_s"].max().rename("fastest"), on=KEYS)
    rows["speed"] = rows["texts_per_s"] / rows["fastest"]
    chosen = "chosen within " + rows["bound"].map("{:g}".format)
    rows["what"] = rows["model"].where(~is_choice, chosen)
    return rows


def table(rows: pd.DataFrame) -> list[list[str]]:
    """Per model its score and its speed, means over seeds."""
    tasks = [task for task in TITLES if task in set(rows["task"])]
    means = rows.groupby(["what", "task"])[["speed", "validation"]].mean().unstack("task")
    order = np.log(means["speed"]).mean(axis=1).sort_values().index
    lines = [["model", *(TITLES[task] for task in tasks)], ["---"] * (1 + len(tasks))]
    for what in order:
        cells = []
        for task in tasks:
            score, speed = means.loc[what, ("validation", task)], means.loc[what, ("speed", task)]
            cells.append("-" if np.isnan(score) else f"{score:.1f} at {speed:.1f}x")
        lines.append([str(what), *cells])
    return lines


def draw(rows: pd.DataFrame) -> Figure:
    """Score against speed, means over seeds: a line per form, a point per cut."""
    mpl.rcParams.update({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    label = "texts a second, relative to the fastest uncut form"
    axes = figure.add_subplot(xlabel=label, ylabel="accuracy on SST-2", xscale="log")
    axes.grid(axis="y", color="#dddddd")
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.set_xticks([0.5, 1, 2, 3, 4, 5, 6], minor=False)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    means = rows[rows["bound"].isna()].groupby("what")[["speed", "validation"]].mean()
    for form, (colour, marker) in FORMS.items():
        part = means[means.index.str.endswith(form)].sort_values("speed")
        axes.plot(part["speed"], part["validation"], marker, ls="-", color=colour, label=form)
        if form == "int8":  # the others have their points in the same order
            for what, point in part.iterrows():
                place, name = (point["speed"], point["validation"]), str(what).split(",")[0]
                apart = (14, -8) if name == "uncut" else (6, 8)  # where no line is
                side = "left"
                if what == part.index[-1]:
                    apart, side = (-10, -8), "right"
                where = "offset points"
                axes.annotate(name, place, apart, textcoords=where, color=colour, ha=side)
    axes.margins(y=0.2)
    axes.legend(frameon=False, loc="lower left")
    return figure


if __name__ == "__main__":
    sys.exit(main())
