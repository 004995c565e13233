"""``python -m studies.curve``: scores by the number of rows, beside logistic regression.

Every run adds its row to results/curve.csv at once, and what is there is not run again. A run has
N rows in all, drawn from the train split by the seed; every tenth is its selection slice. One job
gives the dense model and the pruned one. Logistic regression reads the mean of the frozen
backbone's hidden states; the selection slice chooses C, then all N rows fit it. SetFit (``pip
install setfit``) trains the same backbone on pairs of all N rows, with its defaults and R = 20, as
in its paper (Tunstall et al. 2022). Rows are read from the folder in ``SKIP_EXP_DATA``. ``--table``
prints the table of docs/results.md.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skip_exp.data.splits import choose_slice
from skip_exp.report.tables import pipe_rows
from skip_exp.utils.machine import git_commit
from studies.summary import spread

RESULTS = Path(__file__).parent / "results" / "curve.csv"
COLUMNS = ("task", "rows", "seed", "method", "score", "setting", "commit")
SIZES = (100, 300, 1000, 3000)
SEEDS = (1, 2, 3)
TASKS = {"cr": ("CR", "sentence", 2), "banking77": ("BANKING77", "text", 77)}
LOGISTIC, SETFIT, DENSE, PRUNED = "logistic regression", "SetFit", "dense", "70 % removed"
SETFIT_ROWS = 300  # at most: its cost grows with the rows, and it is made for few
SCORED = 1000  # rows of the validation split at most: the same ones for every run
STRENGTHS = (1.0, 0.1, 10.0, 0.01, 100.0)  # C; the first of equals is taken
Rows = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m studies.curve", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/curve"), help="folder of jobs")
    methods = (LOGISTIC, SETFIT, DENSE)
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--table", action="store_true", help="print the table, run nothing")
    asked = parser.parse_args()
    if asked.table:
        print(pipe_rows(table(pd.read_csv(RESULTS))))
        return
    commit = git_commit()
    if commit is None or commit.endswith("-dirty"):
        parser.error("a run needs a clean work tree: its rows name the commit")
    for method in asked.methods:
        for rows, seed, task in (
            (n, seed, task) for n in SIZES for seed in SEEDS for task in TASKS
        ):
            is_wanted = method != SETFIT or rows <= SETFIT_ROWS
            if is_wanted and (task, rows, seed, method) not in done():
                for row in run(method, task, rows, seed, asked.out):
                    add({"task": task, "rows": rows, "seed": seed, **row, "commit": commit})


def done() -> set[tuple[Any, ...]]:
    """Task, rows, seed and method of the runs that the file has."""
    if not RESULTS.is_file():
        return set()
    return set(pd.read_csv(RESULTS)[[*COLUMNS[:4]]].itertuples(index=False, name=None))


def add(row: dict[str, Any]) -> None:
    """Append a row to the file."""
    table, is_new = pd.DataFrame([row], columns=[*COLUMNS]), not RESULTS.is_file()
    table.to_csv(RESULTS, mode="a", header=is_new, index=False, lineterminator="\n")
    print(row, flush=True)


def run(method: str, task: str, rows: int, seed: int, out: Path) -> Iterator[dict[str, Any]]:
    """What one run adds: method, score in percent and setting."""
    train, validation = drawn(task, "train", rows, seed), drawn(task, "validation", SCORED, 0)
    if method == LOGISTIC:
        score, strength = logistic(task, train, validation)
        yield {"method": LOGISTIC, "score": round(score, 2), "setting": f"C={strength:g}"}
        return
    if method == SETFIT:
        yield {"method": SETFIT, "score": round(setfit(task, train, validation, seed), 2)}
        return
    import skip_exp

    _, text, classes = TASKS[task]
    result = skip_exp.fit(
        train,
        text=text,
        validation=validation,
        classes=[*map(str, range(classes))],
        ratio=0.7,
        name=task,
        output=out,
        overrides=[f"seed={seed}", "trainer.accelerator=cpu", "benchmark.enabled=false"],
    ).result
    for name, state in ((DENSE, "dense"), (PRUNED, "final")):
        setting = f"job={result['job_id']}"
        score = round(100 * result["metric"][state], 2)
        yield {"method": name, "score": score, "setting": setting}


def drawn(task: str, split: str, count: int, seed: int) -> Rows:
    """Random rows of a split; a smaller draw is a part of a larger one."""
    path = Path(os.environ["SKIP_EXP_DATA"]) / task / f"{split}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    order = np.random.default_rng(seed).permutation(len(lines))[:count]
    return [json.loads(lines[i]) for i in order]


def logistic(task: str, train: Rows, validation: Rows) -> tuple[float, float]:
    """Accuracy of logistic regression in percent, and the C that the selection slice chose."""
    from sklearn.linear_model import LogisticRegression

    texts, held = ([row[TASKS[task][1]] for row in part] for part in (train, validation))
    x, y = embedded(texts), np.array([row["label"] for row in train])
    chosen = np.isin(np.arange(len(y)), choose_slice(y.tolist(), texts))

    def fitted(strength: float, part: Any) -> Any:
        return LogisticRegression(C=strength, max_iter=2000).fit(x[part], y[part])

    scores = [fitted(c, ~chosen).score(x[chosen], y[chosen]) for c in STRENGTHS]
    best = STRENGTHS[int(np.argmax(scores))]
    labels = [row["label"] for row in validation]
    return 100 * fitted(best, chosen | True).score(embedded(held), labels), best


def setfit(task: str, train: Rows, validation: Rows, seed: int) -> float:
    """Accuracy of SetFit in percent."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    from skip_exp.models.embedded import find_embedded_folder

    text = TASKS[task][1]
    rows = Dataset.from_list([{"text": row[text], "label": row["label"]} for row in train])
    model = SetFitModel.from_pretrained(str(find_embedded_folder("minilm")))
    settings = TrainingArguments(num_epochs=1, num_iterations=20, seed=seed, report_to="none")
    Trainer(model=model, args=settings, train_dataset=rows).train()
    found = np.asarray(model.predict([row[text] for row in validation]))
    return 100 * float(np.mean(found == [row["label"] for row in validation]))


_seen: dict[str, Any] = {}  # embeddings by text: draws share rows


def embedded(texts: list[str]) -> Any:
    """Mean hidden states of the frozen backbone [texts, H]."""
    import torch

    from skip_exp.models.backbones import load_backbone

    backbone = load_backbone("minilm", "embedded:minilm", "bert", "head")
    missing = sorted({text for text in texts if text not in _seen}, key=len)
    for part in (missing[i : i + 64] for i in range(0, len(missing), 64)):
        encoded = backbone.tokenizer(
            part, padding=True, truncation=True, max_length=128, return_tensors="pt"
        )
        with torch.inference_mode():
            states = backbone.model(**encoded).last_hidden_state
        mask = encoded["attention_mask"][..., None]
        means = (states * mask).sum(1) / mask.sum(1)
        _seen.update(zip(part, means.numpy(), strict=True))
    return np.stack([_seen[text] for text in texts])


def table(frame: pd.DataFrame) -> list[list[str]]:
    """Mean ± standard deviation over seeds; brackets count the seeds where one is missing."""
    sizes = sorted(frame["rows"].unique())
    rows = [["task", "model", *(f"{size:,} rows" for size in sizes)], ["---"] * (2 + len(sizes))]
    for task, (title, *_) in TASKS.items():
        for method in (LOGISTIC, SETFIT, DENSE, PRUNED):
            part = frame[(frame["task"] == task) & (frame["method"] == method)]
            cells = [_cell(part.loc[part["rows"] == size, "score"]) for size in sizes]
            if not part.empty:
                rows.append([title, method, *cells])
    return rows


def _cell(scores: Any) -> str:
    if scores.empty:
        return "-"
    few = "" if len(scores) == len(SEEDS) else f" ({len(scores)})"
    return f"{spread(scores)}{few}"


if __name__ == "__main__":
    main()
