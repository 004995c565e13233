"""Train the skill `nli` of minilm, from which pair tasks start (`tune.start=nli`).

python tools/train_nli_skill.py POOL OUT
python tools/train_nli_skill.py POOL OUT --ship src/skip_exp/weights/skills/nli-minilm

POOL holds JSON lines {premise, hypothesis, label}; label 0 is entailment, 1 neutral, 2
contradiction. The shipped skill saw SNLI's and MNLI's development rows, so it has no score on
either. Two epochs take about 20 minutes of one CPU core.

Left out is every premise of a row that the embedded stand-in of RTE scores: its validation split
and its selection slice.
"""

import argparse
import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp import pipeline
from skip_exp.config.compose import compose_config, job_of
from skip_exp.data import sources
from skip_exp.skill.files import read_skill, write_skill
from skip_exp.skill.record import ScoreRecord
from skip_exp.utils import console

STAND_IN = Path(sources.__file__).parent / "embedded/snli_pairs"
LABELS = ["entailment", "neutral", "contradiction"]
SPLITS = {"select": 4, "validation": 1}  # percent of the premises; the others train
RECIPE = [
    *("backbone=minilm", "experiment=skip", "prune.ratio=0", "retune.enabled=false"),
    *("tune.start=null", "tune.epochs=2", "data.max_length=96"),
    *("benchmark.enabled=false", "logger=none"),
]


def scored_premises() -> set[str]:
    """First texts of the rows that the stand-in of RTE scores."""
    splits = ("validation", "train")
    validation, train = (pd.read_parquet(STAND_IN / f"{s}.parquet").sentence1 for s in splits)
    return {*validation, *train[9::10]}  # every tenth train row is the selection slice


def split_of(premise: str) -> str:
    """The split of all pairs with this premise, by its hash."""
    place, end = int(sha256(premise.encode()).hexdigest(), 16) % 100, 0
    for split, percent in SPLITS.items():
        end += percent
        if place < end:
            return split
    return "train"


def write_rows(rows: Iterable[dict[str, Any]], left_out: set[str], folder: Path) -> dict[str, str]:
    """Write one file per split, without the premises ``left_out``; return {split: path}."""
    splits: dict[str, list[str]] = {"train": [], **{split: [] for split in SPLITS}}
    for row in rows:
        if row["premise"] not in left_out:
            kept = {name: row[name] for name in ("premise", "hypothesis", "label")}
            splits[split_of(row["premise"])].append(json.dumps(kept))
    folder.mkdir(parents=True, exist_ok=True)
    paths = {split: folder / f"{split}.jsonl" for split in splits}
    for split, lines in splits.items():
        paths[split].write_text("\n".join(lines) + "\n")
    return {split: str(path) for split, path in paths.items()}


def ship(skill: Path, folder: Path) -> None:
    """Write the skill in half precision, without a score, a temperature and a local path."""
    about, tensors = read_skill(skill)
    half = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    write_skill(folder, half, about.changed(scores=ScoreRecord(), temperature=1.0).stored())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path, help="a file of JSON lines")
    parser.add_argument("out", type=Path, help="folder of the job")
    parser.add_argument("--ship", type=Path, help="folder of the skill in half precision")
    parser.add_argument("overrides", nargs="*", help="of the recipe, such as tune.epochs=1")
    given = parser.parse_intermixed_args(arguments)
    rows = map(json.loads, given.pool.read_text().splitlines())
    task = {
        "name": "nli",
        "files": write_rows(rows, scored_premises(), given.out / "rows"),
        "text": ["premise", "hypothesis"],
        "labels": LABELS,
        "metrics": ["accuracy"],
    }
    with console.shown():
        console.quiet_lightning()
        settings = [*RECIPE, f"cache.dir={given.out}/cache", *given.overrides]
        pipeline.run(job_of(compose_config("config", settings), task, str(given.out / "job")))
    if given.ship:
        ship(given.out / "job/skill", given.ship)


if __name__ == "__main__":
    main()
