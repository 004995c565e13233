"""What a user could take instead: the most frequent class, or TF-IDF with logistic regression."""

import logging
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from skip_exp.data.rows import Rows, get_labels
from skip_exp.forms.timing import Speed
from skip_exp.outcomes.scores import Labels
from skip_exp.within import show
from skip_exp.within.choose import Split

log = logging.getLogger(__name__)

STRENGTHS = (1.0, 10.0, 100.0)  # of logistic regression (C); the slice chooses
STEPS = 1000  # of its solver, at most
WORDS = 50_000  # and pairs, the most frequent: memory grows with their number times the classes

Texts = Sequence[Sequence[str]]  # one or two of every row


@dataclass(frozen=True)
class TfIdf:
    """Words and pairs of words, weighted by TF-IDF, and logistic regression."""

    pipeline: Pipeline

    @classmethod
    def fit(cls, train: Split, select: Split) -> "TfIdf | None":
        """The best one on the selection slice; None where no text has a word of two letters."""
        best, highest = None, -np.inf
        for strength in STRENGTHS:
            words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=WORDS)
            pipeline = make_pipeline(words, LogisticRegression(C=strength, max_iter=STEPS))
            try:
                model = cls(pipeline.fit(_joined(train.texts), train.labels))
            except ValueError as error:
                log.info("left out: TF-IDF: %s", error)
                return None
            found = select.score(model.predict(select.texts))
            if found > highest:
                best, highest = model, found
        return best

    def predict(self, texts: Texts) -> Labels:
        """Indices of the likeliest classes [n]."""
        predicted: Labels = self.pipeline.predict(_joined(texts))
        return predicted

    @property
    def megabytes(self) -> float:
        """Size as a file, in 10^6 bytes."""
        return len(pickle.dumps(self.pipeline)) / 1e6


def _joined(texts: Texts) -> list[str]:
    return [" ".join(each) for each in texts]


def describe_baselines(
    rows: Rows, words: TfIdf | None, speed: Speed | None, select: Split, validation: Split
) -> list[show.Line]:
    """Always answering the train rows' most frequent class; and ``words``, with its speed."""
    answer, _ = Counter(get_labels(rows.train)).most_common(1)[0]
    constant = [np.full(len(split.labels), answer) for split in (select, validation)]
    lines = [show.Line("majority class", select.score(constant[0]), constant[1])]
    if words and speed:
        words_line = show.Line(
            model=show.TF_IDF,
            select=select.score(words.predict(select.texts)),
            predicted=words.predict(validation.texts),
            speed=speed.texts,
            spread=speed.spread,
            mb=words.megabytes,
        )
        lines.append(words_line)
    return lines
