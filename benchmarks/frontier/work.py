"""What every method of the frontier gets, and what it gives back."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.models import texts
from skip_exp.data.metrics import build_metrics
from skip_exp.data.rows import Rows, get_labels

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
    folder: Path
    cache: Path
    conf: Path | None
    epochs: int
    settings: int | None = None

    def place(self, method: str) -> Path:
        """The folder of a method."""
        return self.folder / slug(method)

    @cached_property
    def raw(self) -> Rows:
        """The rows, as a job reads them."""
        return texts(self.task, self.conf)

    def split(self, name: str) -> tuple[list[str], list[int]]:
        """Texts and labels of train (without the selection slice), select or validation."""
        rows = getattr(self.raw, name)
        return [row["texts"][0] for row in rows], get_labels(rows)

    def score(self, answer: Answer, split: str) -> float:
        """The task's main metric on a split, in percent."""
        (rows, labels), metrics = self.split(split), build_metrics(self.raw.spec)
        metrics.update(torch.tensor(answer(rows)), torch.tensor(labels))
        return 100 * float(metrics.compute()[self.raw.spec.metrics[0]])


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


def best_of(found: Any) -> Any:
    """Of trained models (Fitted, model) the one that the selection slice likes best."""
    return max(found, key=lambda each: each[0].select)
