"""``python -m studies.halves``: two folders of data in which a task's train rows score a choice.

    python -m studies.halves outputs/halves
    SKIP_EXP_DATA=outputs/halves/1 python -m skip_exp +task=sst2 seed=1 ...

Half of the train rows stand in place of train, the other half in place of the reported split, so
that a choice is scored on thousands of rows and the reported split is not looked at. Folder 2 swaps
the halves. Rows with an equal first text are on one side. Data is read from SKIP_EXP_DATA.
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

# Task: the column that decides on the side, and the name of the reported split.
TASKS = {
    **dict.fromkeys(("sst2", "cola", "cr"), ("sentence", "validation")),
    **dict.fromkeys(("mrpc", "rte"), ("sentence1", "validation")),
    "banking77": ("text", "test"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m studies.halves", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write to")
    out = parser.parse_args().out
    for task, (column, reported) in TASKS.items():
        file = Path(os.environ["SKIP_EXP_DATA"]) / task / "train.jsonl"
        halves = split(file.read_text(encoding="utf-8").splitlines(), column)
        for folder, (train, scored) in {"1": halves, "2": halves[::-1]}.items():
            write(out / folder / task / "train.jsonl", train)
            write(out / folder / task / f"{reported}.jsonl", scored)
    return 0


def split(lines: list[str], column: str) -> tuple[list[str], list[str]]:
    """The lines of either half; equal texts in ``column`` are in the same."""
    halves: tuple[list[str], list[str]] = ([], [])
    for line in lines:
        text = " ".join(json.loads(line)[column].split())
        halves[hashlib.sha256(text.encode()).digest()[0] % 2].append(line)
    return halves


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
