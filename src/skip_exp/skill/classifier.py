"""The interface of a skill and of an ONNX export: texts in, labels and probabilities out.

Imports no torch, because an ONNX export needs none.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from skip_exp.data.batches import Row, answer_all, batch_by_length
from skip_exp.data.given import build_all, build_texts, columns_of, is_frame, read_frame
from skip_exp.errors import ExampleError, SkipError, shown
from skip_exp.skill.record import SkillRecord

if TYPE_CHECKING:
    from skip_exp.skill.evaluate import Labelled

TOKENS_PER_BATCH = 1024  # padding included
CHUNK = 8192  # examples that are read and sorted by length together

Example = str | Sequence[str] | Mapping[str, Any]  # a text, two texts, or the task's columns


class Prediction(TypedDict):
    """One answer: the likeliest label, and every label's probability.

    The label is None where it was rejected: see :meth:`Classifier.predict`. Where a text has any
    number of labels, ``labels`` takes the place of ``label``: those above the threshold, the
    likeliest first.
    """

    label: NotRequired[str | None]
    labels: NotRequired[list[str]]
    probabilities: dict[str, float]


@dataclass(frozen=True, repr=False, eq=False)
class Classifier(ABC):
    """A model that classifies texts.

    Attributes:
        about: its record, with the task, the labels and the backbone.
    """

    about: SkillRecord

    def __repr__(self) -> str:
        about = self.about
        fields = f"task={about.task!r}, labels={about.labels}, backbone={about.backbone.name!r}"
        return f"{type(self).__name__}({fields})"

    @abstractmethod
    def save(self, folder: str | Path) -> Path:
        """Write a copy into ``folder``, and return it.

        Raises:
            SkipError: ``folder`` is not empty, or cannot be written.
        """

    @property
    @abstractmethod
    def megabytes(self) -> float:
        """Size on disk in 10^6 bytes."""

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch, padding included."""
        return TOKENS_PER_BATCH

    @abstractmethod
    def encode(self, texts: list[list[str]]) -> list[Row]:
        """Token ids and the model's other inputs of every text or pair."""

    @abstractmethod
    def answer(self, rows: list[Row]) -> list[list[float]]:
        """Probabilities of every label, for every row of a batch. Raises SkipError."""

    def probabilities(self, texts: list[list[str]]) -> list[list[float]]:
        """Probabilities of every label, for every text or pair in order. Raises SkipError."""
        if not texts:
            return []
        rows = self.encode(texts)
        answers = answer_all(rows, batch_by_length(rows, tokens=self.batch_tokens), self.answer)
        if not all(map(isfinite, chain.from_iterable(answers))):
            raise SkipError("an answer is not finite: weights or tokenizer are damaged")
        return answers

    def predict(self, examples: Iterable[Example], *, reject: float = 0.0) -> list[Prediction]:
        """Labels and probabilities of any number of examples, in order.

        Several threads may call one skill, or skills of one backbone, at once.

        Args:
            examples: texts, pairs of texts, or mappings or a data frame with the task's columns.
            reject: the label is None where the largest probability is below this.

        Raises:
            SkipError: an example does not fit the task; no answer is returned. Or ``reject`` is no
                probability.
        """
        return list(self.stream(examples, reject=reject))

    def stream(self, examples: Iterable[Example], *, reject: float = 0.0) -> Iterator[Prediction]:
        """:meth:`predict` one by one, with at most ``CHUNK`` examples in memory.

        The chunks before a refused example are answered.
        """
        self._check_reject(reject)
        if isinstance(examples, str | bytes | Mapping) or not isinstance(examples, Iterable):
            raise SkipError(f"predict takes a list of examples, not {shown(examples)}")
        if is_frame(examples):  # iterating it would give the names of its columns
            examples = read_frame(examples, columns_of(self.about.text)).rows
        return self._stream(examples, reject)

    def _stream(self, examples: Iterable[Example], reject: float) -> Iterator[Prediction]:
        about = self.about
        texts = (example_texts(about, example, i) for i, example in enumerate(examples, 1))
        while chunk := list(islice(texts, CHUNK)):
            for row in self.probabilities(chunk):
                answer: Any = about.outcome.answer(about.labels, row, about.threshold, reject)
                yield answer | {"probabilities": dict(zip(about.labels, row, strict=True))}

    def annotate(self, rows: Any) -> Any:
        """The rows of a data frame, with columns ``predicted``, ``probability`` and ``error``.

        For frameworks that hand over a table batch by batch, such as Ray Data and Spark. A row that
        :meth:`predict` refuses has its reason in ``error``, and no answer.

        Args:
            rows: a data frame of pandas with the task's columns.

        Raises:
            SkipError: a column is missing or occurs twice; or texts have several labels.
        """
        if not self.about.outcome.is_exclusive:
            raise SkipError("annotate: not for several labels per text; predict gives them")
        table = read_frame(rows, columns_of(self.about.text))
        texts, bad = build_all(table.rows, self.about.text)
        answers = dict(zip(texts, self.probabilities(list(texts.values())), strict=True))
        highest = {number: max(row) for number, row in answers.items()}
        labels = {n: self.about.labels[row.index(highest[n])] for n, row in answers.items()}
        numbers = range(1, len(rows) + 1)
        return rows.assign(
            predicted=list(map(labels.get, numbers)),
            probability=list(map(highest.get, numbers)),
            error=list(map(bad.get, numbers)),
        )

    def _check_reject(self, reject: float) -> None:
        if not 0 <= reject <= 1:
            raise SkipError(f"reject={reject}: must be a probability, from 0 to 1")
        if reject and not self.about.outcome.is_exclusive:
            raise SkipError(
                f"reject={reject}: not for several labels per text; "
                f"those above {self.about.threshold} are given"
            )

    def evaluate(
        self,
        data: Any,
        *,
        label: str | None = None,
        reject: float = 0.0,
        overrides: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Score it on rows.

        Example:
            >>> scores = skill.evaluate("test.csv")
            >>> scores["accuracy"], scores["errors"][0]
            (0.92, {'row': 7, 'text': 'not bad', 'true': 'good', 'predicted': 'bad', ...})

        Returns:
            ``rows``, and every metric by name. ``classes``: {name: {precision, recall, f1,
            support}}. ``confusion``: {true: {predicted: count}}. ``errors``: a dictionary per
            mistake with its number, its text columns, ``true``, ``predicted`` and ``probability``,
            the most confident first. With ``reject``, ``coverage`` is the fraction of rows that are
            answered, and ``answered`` has their metrics. Where a text has several labels, there is
            no ``confusion``, an error joins them by ``;``, and its probability is that of the most
            confident mistake in it.

        Args:
            data: rows in the task's columns: a file, a data frame, a data set, or a list of rows
                as dictionaries.
            label: column of the labels; None: the one that the skill was trained on.
            reject: as in :meth:`predict`.
            overrides: keys of ``data`` that say how rows are read, such as ``["data.sep=;"]``.

        Raises:
            SkipError: the rows do not fit the task, or ``reject`` is no probability.
        """
        from skip_exp.config.compose import compose_data  # not needed to predict, as is Hydra
        from skip_exp.skill.evaluate import read_labelled

        reading = compose_data(overrides)
        return self.score(read_labelled(self.about, data, label, reading), reject)

    def score(self, labelled: "Labelled", reject: float = 0.0) -> dict[str, Any]:
        """:meth:`evaluate` on rows that are read. Raises SkipError."""
        from skip_exp.skill.evaluate import score_rows  # not needed to predict

        self._check_reject(reject)
        texts = [row["texts"] for row in labelled.rows.values()]
        return score_rows(self.about, labelled, self.probabilities(texts), reject)


def example_texts(about: SkillRecord, example: Example, number: int) -> list[str]:
    """The one or two texts of an example; ``number`` (from 1) is for the message."""
    try:
        return build_texts(example, about.text)
    except ValueError as error:
        raise ExampleError(number, str(error)) from error
