"""Generates small, deterministic stand-in rows in a task's own columns; never real data.

Single texts with two labels are sentiment, pairs are entailment, and more labels are topics. Train
and validation share function words only, and all labels use the same sentence frames, so a bag of
words stays at chance on validation.
"""

import random
from collections.abc import Callable

import pandas as pd

from skip_exp.config.task import TaskConfig
from skip_exp.data.sample_words import TRAIN, VALIDATION, Words
from skip_exp.data.spec import columns
from skip_exp.data.text import text_columns
from skip_exp.errors import DataError

TRAIN_ROWS, VALIDATION_ROWS = 800, 400
P_POSITIVE = 0.8  # share of positive claims; also the accuracy of reading one text only

_POSITIVE = ("positive", "pos", "yes", "true")
_FOLLOWS = ("entailment", "equivalent", "duplicate", "true", "yes", "same")
_CONTRADICTS = ("contradiction", "contradictory")
Texts = tuple[str, str, str]  # two texts and their subject
Make = Callable[[random.Random, Words, str], Texts]


def sample_tables(spec: TaskConfig) -> dict[str, tuple[pd.DataFrame, str]]:
    """Rows of every split, balanced over the labels, and their origin for messages.

    Raises:
        DataError: the task has more labels than the sample has topics.
    """
    tables = {}
    for name in spec.splits:
        train = name == spec.train
        rows = TRAIN_ROWS if train else VALIDATION_ROWS
        table = _table(spec, TRAIN if train else VALIDATION, rows, random.Random(name))
        tables[name] = (table, f"the {name} sample")
    return tables


def _table(spec: TaskConfig, words: Words, rows: int, rng: random.Random) -> pd.DataFrame:
    make, meanings = _plan(spec)
    table = []
    for i in range(rows):
        label = i % spec.num_labels
        text_a, text_b, thing = make(rng, words, meanings[label])
        row = dict.fromkeys(columns(spec), thing)
        for entry, text in zip(spec.text, (text_a, text_b), strict=False):
            row[text_columns(entry)[-1]] = text
        table.append({**row, spec.label: spec.labels[label]})
    rng.shuffle(table)  # else the row number gives the label away, and select has one label
    return pd.DataFrame(table)


def _plan(spec: TaskConfig) -> tuple[Make, tuple[str, ...]]:
    """A generator for the task's texts, and the meaning of each label."""
    n = spec.num_labels
    if spec.pair and n == 2:
        return _pair_maker(spec), _two(spec, _FOLLOWS, "follows", "contradicts")
    if spec.pair and n == 3:
        return _pair_maker(spec), _three(spec)
    if n == 2:
        return _sentiment, _two(spec, _POSITIVE, "positive", "negative")
    if n > len(TRAIN.topics):
        raise DataError(f"task {spec.name}: {n} labels; the sample has at most {len(TRAIN.topics)}")
    return _topic, tuple(map(str, range(n)))


def _two(spec: TaskConfig, names: tuple[str, ...], yes: str, no: str) -> tuple[str, str]:
    first = spec.labels[0].lower() in names
    return (yes, no) if first else (no, yes)


def _three(spec: TaskConfig) -> tuple[str, ...]:
    meaning_by_label = {
        **dict.fromkeys(_FOLLOWS, "follows"),
        **dict.fromkeys(_CONTRADICTS, "contradicts"),
    }
    meanings = tuple(meaning_by_label.get(label.lower(), "other") for label in spec.labels)
    complete = len(set(meanings)) == 3
    return meanings if complete else ("follows", "other", "contradicts")


def _sentiment(rng: random.Random, words: Words, meaning: str) -> Texts:
    same, other = words.positive, words.negative
    if meaning == "negative":
        same, other = other, same
    frames = rng.choice((words.plain, words.negated, words.contrasted))
    a, b = rng.sample(other if frames is words.negated else same, 2)
    thing = rng.choice(words.things)
    text = rng.choice(frames).format(h=thing, a=a, b=b, o=rng.choice(other))
    return text, text, thing


def _topic(rng: random.Random, words: Words, meaning: str) -> Texts:
    topic = words.topics[int(meaning)]

    def text() -> str:
        x, y, z = rng.sample(topic, 3)
        return rng.choice(words.about).format(x=x, y=y, z=z)

    return text(), text(), topic[0]


def _pair_maker(spec: TaskConfig) -> Make:
    """Pairs of a statement and a claim, phrased by the columns' names (question, passage)."""
    first, second = (text_columns(entry)[-1].lower() for entry in spec.text)
    is_question = ("question" in first, "question" in second)
    passage = "passage" in first or "passage" in second

    def make(rng: random.Random, words: Words, meaning: str) -> Texts:
        a, b, c, thing, claimed_of = _relation(rng, words, meaning)
        if all(is_question):
            statement = rng.choice(words.questions).format(h=thing, c=f"{a} and {b}")
        else:
            statement = rng.choice(words.plain).format(h=thing, a=a, b=b)
        if passage:
            statement = f"{rng.choice(words.filler)} {statement}"
        claim = rng.choice(words.questions if any(is_question) else words.claims)
        texts = (statement, claim.format(h=claimed_of, c=c))
        return (*(texts if is_question[1] or not is_question[0] else texts[::-1]), thing)

    return make


def _relation(rng: random.Random, words: Words, meaning: str) -> tuple[str, str, str, str, str]:
    """Two words of the statement, one of the claim, and the subjects of both."""
    positive = rng.random() < P_POSITIVE
    same, other = words.positive, words.negative
    if not positive:
        same, other = other, same
    # A claim about another subject is unrelated, whether or not it agrees.
    agrees = meaning == "follows" or (meaning == "other" and rng.random() < 0.5)
    c = rng.choice(same)
    a, b = rng.sample([word for word in (same if agrees else other) if word != c], 2)
    thing, elsewhere = rng.sample(words.things, 2)
    return a, b, c, thing, elsewhere if meaning == "other" else thing
