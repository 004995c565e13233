"""``python -m studies.baselines``: what a user could take instead of a tuned model.

    python -m studies.baselines --tasks sst2 cola cr banking77 --seeds 1
    python -m studies.baselines --tasks cr --seeds 1 2 3 --train-rows 100 400 1000

TF-IDF and a linear head on frozen MiniLM, as ``skip-exp train`` fits them beside its models; on
100 rows or a thousand, those that a job with ``data.train_rows`` trains on. Every model adds its
row to ``results/baselines.csv``. Data is read from the folder in SKIP_EXP_DATA.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.config.compose import compose_config
from skip_exp.config.schema import Config
from skip_exp.config.together import job_config
from skip_exp.phases.finish import begin_result, skill_record
from skip_exp.phases.prepare import prepare
from skip_exp.utils.machine import git_commit
from skip_exp.within.baselines import fit_baselines
from skip_exp.within.choose import Split
from studies.evidence import CONF, DEVELOPMENT, MORE, RESULTS, TITLES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m studies.baselines", description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TITLES, default=DEVELOPMENT)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--train-rows", nargs="+", type=int, default=[None])
    parser.add_argument("--rows", type=Path, default=RESULTS / "baselines.csv")
    asked = parser.parse_args()
    for task in asked.tasks:
        for count in asked.train_rows:
            for seed in asked.seeds:
                rows = pd.DataFrame([*measure(task, count, seed)])
                is_new = not asked.rows.is_file()
                rows.to_csv(asked.rows, mode="a", header=is_new, index=False, lineterminator="\n")
    return 0


def compose_job(task: str, count: int | None, seed: int) -> Config:
    """A job of ``strong`` on so many train rows; None: all."""
    own = [f"hydra.searchpath=[file://{CONF}]", f"+task={task}", "logger=none"]
    own += [f"seed={seed}", "experiment=strong", "trainer.accelerator=cpu", "cache.dir=null"]
    own += MORE.get(task, [])
    own += [] if count is None else [f"data.train_rows={count}"]
    return job_config(compose_config("config", own))


def measure(task: str, count: int | None, seed: int) -> Iterator[dict[str, Any]]:
    """A row per model, scores in percent."""
    job = prepare(compose_job(task, count, seed))
    rows = job.data
    train, select, validation = (
        Split.of(rows, part) for part in (rows.train, rows.select, rows.validation)
    )
    about = skill_record(job, job.new_model(), begin_result(job))
    for model in fit_baselines(job, about, train):
        yield {
            "task": task,
            "seed": seed,
            "train_rows": count,
            "model": model.name,
            "metric": select.metric,
            "select": round(100 * select.score(model.predict(select.texts)), 3),
            "validation": round(100 * validation.score(model.predict(validation.texts)), 3),
            "mb": round(model.mb, 3),
            "commit": git_commit(),
        }


if __name__ == "__main__":
    sys.exit(main())
