"""``python -m studies.compress``: fine-tuned MiniLM classifiers, cut by ``skip_exp.compress``.

Each task and seed is fine-tuned by transformers' Trainer on the train rows without the selection
slice, keeping the epoch that is best on that slice. Then it is cut at every ratio. The folder in
SKIP_EXP_DATA has the tasks' rows; a row per job goes to results/compress.csv.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)

import skip_exp
from skip_exp.data.splits import choose_slice
from skip_exp.models.embedded import find_embedded_folder
from skip_exp.report import frame

RATES = {"sst2": 1e-4, "cr": 1e-4, "cola": 5e-5}  # as fine-tuning chose them on the slice
CLASSES = {
    "sst2": ["negative", "positive"],
    "cr": ["negative", "positive"],
    "cola": ["unacceptable", "acceptable"],
}
METRICS = {"sst2": "[accuracy]", "cr": "[accuracy]", "cola": "[matthews,accuracy]"}
RATIOS = (0.52, 0.7, 0.9)
EPOCHS, BATCH, LENGTH = 3, 32, 128
ROWS = Path(__file__).parent / "results" / "compress.csv"
COLUMNS = (
    *("job_id", "task", "seed", "ratio"),
    *("metric", "metric/dense", "metric/pruned", "metric/final"),
    *("select/dense", "select/pruned", "select/final", "params/block_pruned", "params/all_pruned"),
    *("flops/ratio", "seconds/total", "git_commit", "finished"),
)


class Rows:
    """Encoded rows, as a map-style data set."""

    def __init__(self, tokenizer: Any, table: pd.DataFrame) -> None:
        self.encoded = tokenizer(table["sentence"].tolist(), truncation=True, max_length=LENGTH)
        self.labels = table["label"].tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {name: x[i] for name, x in self.encoded.items()} | {"labels": self.labels[i]}


def fine_tune(task: str, seed: int, data: Path, folder: Path) -> Path:
    """A fine-tuned classifier in ``folder``, unless it is there."""
    if (folder / "config.json").is_file():
        return folder
    source, names = find_embedded_folder("minilm"), CLASSES[task]
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForSequenceClassification.from_pretrained(
        source,
        attn_implementation="eager",  # its backward pass in bf16 is faster on a CPU
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )
    table = pd.read_json(data / task / "train.jsonl", lines=True)
    held = choose_slice(table["label"].tolist(), table["sentence"].tolist())
    parts = (table.drop(index=held), table.loc[held])
    train, select = (Rows(tokenizer, part.reset_index(drop=True)) for part in parts)
    arguments = TrainingArguments(
        output_dir=str(folder.with_name(f"{folder.name}-trainer")),
        learning_rate=RATES[task],
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=64,
        warmup_steps=0.06,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        save_total_limit=1,
        train_sampling_strategy="group_by_length",
        seed=seed,
        report_to=[],
        bf16=True,
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=train,
        eval_dataset=select,
        processing_class=tokenizer,
        compute_metrics=lambda found: {
            "accuracy": float((np.argmax(found.predictions, 1) == found.label_ids).mean())
        },
    )
    trainer.train()
    trainer.save_model(str(folder))
    tokenizer.save_pretrained(folder)
    return folder


def job(task: str, seed: int, ratio: float, data: Path, out: Path, more: list[str]) -> None:
    """Cut the fine-tuned classifier of a task and seed at a ratio."""
    skip_exp.compress(
        fine_tune(task, seed, data, out / "models" / f"{task}-{seed}"),
        None,
        data / task / "train.jsonl",
        text="sentence",
        validation=data / task / "validation.jsonl",
        ratio=ratio,
        name=task,
        output=out,
        overrides=[
            f"seed={seed}",
            f"task.metrics={METRICS[task]}",
            *("benchmark.enabled=false", "trainer.accelerator=cpu", *more),
        ],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/compress"))
    parser.add_argument("--tasks", nargs="+", choices=RATES, default=[*RATES])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--ratios", nargs="+", type=float, default=[*RATIOS])
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    data = Path(os.environ["SKIP_EXP_DATA"])
    for seed in options.seeds:
        for task in options.tasks:
            for ratio in options.ratios:
                job(task, seed, ratio, data, options.out, options.overrides)
            write(options.out, options.rows)
    return 0


def write(out: Path, rows: Path) -> None:
    """A row per job in ``out``: scores in percent, everything else as in result.json."""
    found = frame.load([out]).sort_values(["task", "seed", "ratio"])[[*COLUMNS]]
    scores = [name for name in COLUMNS if name.startswith(("metric/", "select/"))]
    found[scores] = 100 * found[scores]
    found = found.rename(columns={"job_id": "job", "git_commit": "commit"})
    found.round(3).to_csv(rows, index=False, lineterminator="\n")


if __name__ == "__main__":
    sys.exit(main())
