"""What every method of the frontier gets, and what it gives back."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from skip_exp.data.splits import selection

COLUMN = {"sst2": "sentence", "cr": "sentence", "cola": "sentence"}  # of the text; else "text"
METRIC = {"cola": "matthews", "irony": "f1_macro"}  # else accuracy
OWN = ("sst2", "cola", "banking77")  # tasks of conf/task; the others are in --config-dir
Answer = Callable[[Sequence[str]], list[int]]  # texts -> labels


def slug(name: str) -> str:
    """A name for a folder: ``MiniLM, 1 of 6 layers`` is ``minilm-1-of-6-layers``."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


@dataclass(frozen=True)
class Work:
    """A task's rows, the seed, and the folder of what is trained.

    Attributes:
        cache: of jobs; what is finished there is not run again.
        conf: folder with ``task/NAME.yaml`` of the tasks that are not in conf/task.
        epochs: over the train rows that a method may take, at most.
        settings: of a method that may be tried, the first ones; None: all.
    """

    task: str
    seed: int
    data: Path
    folder: Path
    cache: Path
    conf: Path | None
    epochs: int
    settings: int | None = None

    def place(self, method: str) -> Path:
        """The folder of a method."""
        return self.folder / slug(method)

    def split(self, name: str) -> tuple[list[str], list[int]]:
        """Texts and labels of train (without the selection slice), select or validation."""
        file = "validation" if name == "validation" else "train"
        table = pd.read_json(self.data / self.task / f"{file}.jsonl", lines=True)
        if name != "validation":
            held = selection(len(table), None)
            table = table.loc[held] if name == "select" else table.drop(index=held)
        return table[COLUMN.get(self.task, "text")].tolist(), table["label"].tolist()

    def score(self, answer: Answer, split: str) -> float:
        """The task's metric on a split, in percent."""
        texts, labels = self.split(split)
        found, metric = answer(texts), METRIC.get(self.task)
        if metric == "matthews":
            return 100 * float(matthews_corrcoef(labels, found))
        if metric == "f1_macro":
            return 100 * float(f1_score(labels, found, average="macro"))
        return 100 * float(accuracy_score(labels, found))


@dataclass(frozen=True)
class Fitted:
    """How a method was trained.

    Attributes:
        select: score on the selection slice in percent; the best one chose ``setting``.
        seconds: of training with this setting.
    """

    select: float
    setting: str
    seconds: float

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "fitted.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Fitted":
        return cls(**json.loads((folder / "fitted.json").read_text(encoding="utf-8")))


class Method(Protocol):
    """A way to a classifier."""

    def fit(self, work: Work, folder: Path) -> Fitted:
        """Train with every setting, keep in ``folder`` what the selection slice likes best."""

    def load(self, work: Work, folder: Path) -> tuple[Answer, float]:
        """The classifier, and the size of its weights on disk in MB (10^6 bytes)."""
