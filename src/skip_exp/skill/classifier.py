"""Texts in, labels out, whatever computes the logits: a skill, or an exported model.

Imports no torch: an exported model needs none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from skip_exp.errors import SkipError
from skip_exp.skill.about import SkillAbout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENS_PER_BATCH = 1024  # padding included; on a CPU larger batches fall out of the cache
CHUNK = 8192  # texts that are sorted by length together

Example = str | Sequence[str] | Mapping[str, Any]  # a text, two texts, or the task's columns


class Prediction(TypedDict):
    """One answer: the likeliest label, and every label's probability."""

    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True, repr=False)
class Classifier:
    """What answers texts.

    Attributes:
        about: the task, its labels, and where the model came from.
    """

    about: SkillAbout

    def __repr__(self) -> str:
        about = self.about
        what = f"task={about.task!r}, labels={about.labels}, backbone={about.backbone['name']!r}"
        return f"{type(self).__name__}({what})"

    def probabilities(self, texts: list[list[str]], batch_tokens: int) -> list[list[float]]:
        """Of every label, for every text or pair of texts, in their order."""
        raise NotImplementedError

    def predict(
        self, examples: Sequence[Example], batch_tokens: int = TOKENS_PER_BATCH
    ) -> list[Prediction]:
        """Labels and probabilities of any number of examples, in their order.

        Args:
            examples: texts, pairs of texts, or mappings with the task's columns.
            batch_tokens: batch size in tokens, padding included; examples run in order of length.

        Raises:
            SkipError: an example that is not what the task takes.
        """
        if isinstance(examples, str | Mapping):
            raise SkipError("predict takes a list of examples, not a single one")
        answers: list[Prediction] = []
        for start in range(0, len(examples), CHUNK):
            part = examples[start : start + CHUNK]
            texts = [example_texts(self.about, x, start + i) for i, x in enumerate(part, 1)]
            answers += [self._answer(row) for row in self.probabilities(texts, batch_tokens)]
        return answers

    def _answer(self, row: list[float]) -> Prediction:
        best = max(range(len(row)), key=row.__getitem__)
        probabilities = dict(zip(self.about.labels, row, strict=True))
        return {"label": self.about.labels[best], "probabilities": probabilities}


def example_texts(about: SkillAbout, example: Example, number: int) -> list[str]:
    """The one or two texts of an example; ``number`` (from 1) is for the message."""
    if isinstance(example, Mapping):
        from skip_exp.data.spec import fill, text_columns  # its package takes a second to import

        columns = dict.fromkeys(c for entry in about.text for c in text_columns(entry))
        for column in columns:
            if example.get(column) is None:
                has = ", ".join(map(str, example)) or "nothing"
                raise SkipError(
                    f"example {number}: task {about.task} needs column {column!r} (it has: {has})"
                )
        row = {column: str(example[column]) for column in columns}
        return [fill(entry, row) for entry in about.text]
    texts = [example] if isinstance(example, str) else list(example)
    if len(texts) != len(about.text):
        wanted = "one text" if len(about.text) == 1 else "two texts"
        raise SkipError(
            f"example {number}: task {about.task} takes {wanted} ({', '.join(about.text)}), "
            f"not {len(texts)}"
        )
    if not_texts := [text for text in texts if not isinstance(text, str)]:
        raise SkipError(f"example {number}: {not_texts[0]!r} is not a text")
    return texts


def encode_texts(
    tokenizer: "PreTrainedTokenizerBase", texts: list[list[str]], max_length: int
) -> list[dict[str, list[int]]]:
    """Token ids, mask and, where the model has them, token types of every text or pair."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(*columns, truncation=True, max_length=max_length)
    return [
        dict(zip(encoded.keys(), row, strict=True)) for row in zip(*encoded.values(), strict=True)
    ]


def token_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices in order of length, in batches of at most ``max_tokens`` tokens, padding included.

    A single text longer than that is a batch of its own.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[i] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
