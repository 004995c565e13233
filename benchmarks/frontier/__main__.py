"""Score against texts a second: ours beside what else a user could take.

Example:

    python -m benchmarks.frontier --task sst2 --out outputs/frontier

Every method trains on the same rows, with rates that the selection slice chooses, and is kept in
--out, so an interrupted run goes on where it was. Then all of them answer the validation texts in
turns: text in, label out, tokenizer included. Rows are read from the folder in SKIP_EXP_DATA; what
was measured is added to --rows. SetFit and model2vec are the extra `frontier`.
"""

import argparse
import csv
import os
from pathlib import Path

import torch

from benchmarks.frontier.others import Model2Vec, SetFit, TfIdf
from benchmarks.frontier.ours import Int8, Jobs, Shallow
from benchmarks.frontier.work import Fitted, Method, Work
from benchmarks.timing import side_by_side
from skip_exp.utils.machine import git_commit, processor

ROWS = Path(__file__).parents[2] / "studies/results/frontier.csv"
COLUMNS = (
    *("task", "seed", "method", "setting", "select", "score", "texts_per_s", "spread", "mb"),
    *("train_s", "contended", "processor", "threads", "commit"),
)
EPOCHS = 6  # as many as ours on the dense model
TURNS = 60.0  # seconds in which all methods answer in turns, and at least thrice
FINE_TUNED = "MiniLM, fine-tuned"
RATES = [f"tune.full_lr={rate}" for rate in ("1e-4", "5e-5", "2e-4")]
PAPER = ["experiment=paper", "backbone=minilm"]
PAPER_RATES = [f"tune.lr={rate}" for rate in ("2e-2", "5e-3", "5e-2")]
METHODS: dict[str, Method] = {
    "tf-idf, logistic regression": TfIdf(),
    "model2vec, fine-tuned": Model2Vec(),
    "SetFit": SetFit(),
    "MiniLM frozen, linear readout": Jobs(["experiment=readout"]),
    FINE_TUNED: Jobs(["experiment=finetune", f"tune.epochs={EPOCHS}", "tune.dropout=true"], RATES),
    "MiniLM, fine-tuned, int8": Int8(FINE_TUNED),
    "MiniLM, LoRA": Jobs(["experiment=lora"], [f"tune.lora_lr={r}" for r in ("1e-3", "5e-4")]),
    **{f"MiniLM, {k} of 6 layers": Shallow(k, FINE_TUNED) for k in (1, 2, 3)},
    **{f"paper, {r:.0%} cut": Jobs([*PAPER, f"prune.ratio={r}"], PAPER_RATES) for r in (0.52, 0.9)},
    **{f"ours, {r:.0%} cut": Jobs([f"prune.ratio={r}"]) for r in (0.0, 0.52, 0.7, 0.9, 0.95)},
    "ours, 90% cut, int8": Int8("ours, 90% cut"),
}


def main() -> None:
    # Many models in one process: else oneDNN forgets kernels of one while the others answer.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "65536")
    asked = parser().parse_args()
    work = Work(
        asked.task,
        asked.seed,
        (asked.out / f"{asked.task}-{asked.seed}").resolve(),
        (asked.cache or asked.out / "cache").resolve(),
        asked.config_dir and asked.config_dir.resolve(),
        EPOCHS,
        asked.settings,
    )
    for name in asked.methods:
        folder = work.place(name)
        if not (folder / "fitted.json").is_file():
            METHODS[name].fit(work, folder).save(folder)
        fitted = Fitted.load(folder)
        print(f"{name}: {fitted.select:.1f} on the selection slice, {fitted.setting}", flush=True)
    if not asked.train:
        measure(work, asked.methods, asked.rows)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.frontier",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--task", required=True, help="with one text a row")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS], metavar="NAME")
    made.add_argument("--out", type=Path, default=Path("outputs/frontier"))
    made.add_argument("--settings", type=int, help="rates that a method may try: its first ones")
    made.add_argument("--cache", type=Path, help="cache of jobs; default: OUT/cache")
    made.add_argument("--rows", type=Path, default=ROWS)
    made.add_argument("--config-dir", type=Path, help="folder with task/NAME.yaml")
    made.add_argument("--train", action="store_true", help="train only: do not score or time")
    return made


def measure(work: Work, methods: list[str], rows: Path) -> None:
    """Score and time trained methods, and add a row for each."""
    loaded = {name: METHODS[name].load(work, work.place(name)) for name in methods}
    texts = work.split("validation")[0]
    calls = [lambda answer=answer: answer(texts) for answer, _ in loaded.values()]
    times = side_by_side(calls, seconds=TURNS, inference=False)
    is_new = not rows.is_file()
    with rows.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        for i, (name, (answer, size)) in enumerate(loaded.items()):
            fitted = Fitted.load(work.place(name))
            speeds = [len(texts) / seconds for seconds in times.seconds[i]]
            low, middle, high = torch.tensor(speeds).quantile(torch.tensor([0.25, 0.5, 0.75]))
            row = {
                **{"task": work.task, "seed": work.seed, "method": name, "setting": fitted.setting},
                **{"select": f"{fitted.select:.2f}"},
                "score": f"{work.score(answer, 'validation'):.2f}",
                **{"texts_per_s": f"{middle:.0f}", "spread": f"{(high - low) / 2:.0f}"},
                **{"mb": f"{size:.1f}", "train_s": f"{fitted.seconds:.0f}"},
                **{"contended": times.contended, "processor": processor()},
                **{"threads": torch.get_num_threads(), "commit": git_commit()},
            }
            writer.writerow(row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
