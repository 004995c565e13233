"""``python -m studies.setfit``: SetFit (Tunstall et al. 2022) on MiniLM, beside the baselines.

    pip install setfit
    python -m studies.setfit --tasks cr sst2 --train-rows 100 400 --seeds 1 2 3
    python -m studies.setfit --tasks cr sst2 --steps 500

The authors' settings: batches of 16 pairs, 20 positive and 20 negative ones for each row, a
logistic regression on the tuned sentence embeddings. The rows of the selection slice train it too:
it chooses nothing on them. With all train rows ``--steps`` ends the training. Every model adds its
row to ``results/baselines.csv``. Data is read from the folder in SKIP_EXP_DATA.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from skip_exp.backbones.embedded import minilm_folder
from skip_exp.phases.prepare import prepare
from skip_exp.utils.machine import git_commit
from skip_exp.within.choose import Split
from studies.baselines import compose_job
from studies.evidence import RESULTS, TITLES

PAIRS = 20  # of each kind, for each row


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m studies.setfit", description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TITLES, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--train-rows", nargs="+", type=int, default=[None])
    parser.add_argument("--steps", type=int, default=-1)
    parser.add_argument("--rows", type=Path, default=RESULTS / "baselines.csv")
    asked = parser.parse_args()
    for seed in asked.seeds:
        for count in asked.train_rows:
            for task in asked.tasks:
                row = pd.DataFrame([measure(task, count, seed, asked.steps)])
                row.to_csv(asked.rows, mode="a", header=False, index=False, lineterminator="\n")
    return 0


def measure(task: str, count: int | None, seed: int, steps: int) -> dict[str, Any]:
    """A row of the baselines, scores in percent."""
    job = prepare(compose_job(task, count, seed))
    rows = job.data
    model = fit(Split.of(rows, [*rows.train, *rows.select]), seed, steps)
    validation = Split.of(rows, rows.validation)
    predicted = model.predict([text for (text,) in validation.texts], as_numpy=True)
    return {
        "task": task,
        "seed": seed,
        "train_rows": count,
        "model": "SetFit",
        "metric": validation.metric,
        "select": None,
        "validation": round(100 * validation.score(predicted), 3),
        "mb": round(sum(p.numel() for p in model.model_body.parameters()) * 4 / 1e6, 3),
        "commit": git_commit(),
    }


def fit(train: Split, seed: int, steps: int) -> Any:
    """SetFit's model on the texts of ``train``; ``steps``: -1 for all pairs."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    texts = [text for (text,) in train.texts]
    with TemporaryDirectory() as folder:
        given = TrainingArguments(
            output_dir=folder,
            batch_size=16,
            num_iterations=PAIRS,
            max_steps=steps,
            seed=seed,
            report_to="none",
            save_strategy="no",
        )
        model = SetFitModel.from_pretrained(str(minilm_folder()))
        rows = Dataset.from_dict({"text": texts, "label": train.labels.tolist()})
        Trainer(model=model, args=given, train_dataset=rows).train()
    return model


if __name__ == "__main__":
    sys.exit(main())
