"""The config group ``task``."""

from dataclasses import dataclass
from typing import Any
from unicodedata import category

from omegaconf import MISSING

from skip_exp.config.checks import key, unset
from skip_exp.errors import ConfigError
from skip_exp.outcomes.registry import OUTCOMES, Outcome

_QUOTES = (
    "must be texts; without quotes YAML reads yes, no, on, off, true, false and null as values "
    'and 1, 2, 3 as numbers: write "yes", "no" or "1", "2"'
)


# Characters that break a line or a record: controls, separators of lines and paragraphs, and lone
# surrogates, such as half of an emoji that was cut.
_UNPRINTED = {"Cc", "Zl", "Zp", "Cs"}


def _is_unprinted(text: str) -> bool:
    return any(category(character) in _UNPRINTED for character in text)


@dataclass
class TaskConfig:
    name: str = key(MISSING, "Name in results and folders.")
    hub: dict[str, str] = key(dict, "Hub data set: {path, name}, arguments of load_dataset.")
    files: dict[str, str] = key(dict, "Own files: {train, validation, select}; train is enough.")
    text: list[str] = key(MISSING, 'One or two columns, or templates such as "{word}: {context}".')
    label: str = key(
        "label",
        "Column of the label: its index, or its name in `labels`. With `multilabel`: a list of "
        "them, or names joined by `;`, `|` or `,`; empty: a column of 0 and 1 per label.",
    )
    # Any, because a list of str would silently turn an unquoted yes into the text "True".
    labels: list[Any] = key(MISSING, "Label names, in the order of their indices.")
    words: list[Any] = key(list, "A word per label, for mlm and seq2seq; default: the labels.")
    metrics: list[str] = key(
        MISSING,
        "accuracy, f1, f1_macro or matthews; with `multilabel` f1_micro, f1_macro or "
        "average_precision. The first is the main.",
    )
    multilabel: bool = key(
        False, "Any number of labels per text, each with a yes or no of its own."
    )
    train: str = key("train", "Split to train on.")
    validation: str = key("validation", "Split whose scores are reported.")
    extra: list[str] = key(list, "Further splits to score.")
    start: str | None = key(None, "Skill of the package that tuning starts from where it fits.")
    group: str | None = key(None, "Column whose equal values stay on one side of a made split.")

    @property
    def outcome(self) -> Outcome:
        return OUTCOMES[self.multilabel]

    @property
    def num_labels(self) -> int:
        return len(self.labels)

    @property
    def label_columns(self) -> list[str]:
        """The column of the label, or a column of 0 and 1 for each."""
        return [self.label] if self.label else list(self.labels)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are read, in reading order."""
        return (self.train, self.validation, *self.extra)

    def __post_init__(self) -> None:
        if unset(self):
            return
        if len(self.text) not in (1, 2):
            raise ConfigError("task.text", self.text, "one or two columns or templates")
        if not all(self.text) or len({*self.text}) < len(self.text):
            raise ConfigError("task.text", self.text, "different columns, none of them empty")
        for name, values in (("labels", self.labels), ("words", self.words)):
            if not all(isinstance(value, str) for value in values):
                raise ConfigError(f"task.{name}", values, _QUOTES)
            if any(map(_is_unprinted, values)):
                why = "a name has a control character or half of a character"
                raise ConfigError(f"task.{name}", ascii(values), why)
        if len(self.labels) < 2 or len({*self.labels, ""}) <= len(self.labels):
            raise ConfigError("task.labels", self.labels, "two or more different names, none empty")
        if self.words and len(self.words) != len(self.labels):
            raise ConfigError("task.words", self.words, f"one per label of {self.labels}")
        if not self.label and self.outcome.is_exclusive:
            raise ConfigError(
                "task.label", "", "a column of the label; only multilabel has several"
            )
        if not self.metrics or not {*self.metrics} <= {*self.outcome.metrics}:
            allowed = f"one or more of {', '.join(self.outcome.metrics)}"
            raise ConfigError("task.metrics", self.metrics, allowed)
        if "f1" in self.metrics and len(self.labels) != 2:
            raise ConfigError("task.metrics", "f1", "needs exactly two labels; use f1_macro")
        for split in (self.validation, *self.extra):
            if self.splits.count(split) > 1:
                key = "task.validation" if split == self.validation else "task.extra"
                raise ConfigError(key, split, "every split counts once: what trains is not scored")
        known = (*self.splits, "select")
        for split in self.files:
            if split not in known:
                raise ConfigError("task.files", split, f"no such split: {', '.join(known)}")
        if self.hub and ("path" not in self.hub or not set(self.hub) <= {"path", "name"}):
            allowed = "path, and name if the data set has configurations"
            raise ConfigError("task.hub", self.hub, allowed)
