"""What a user could take instead: cheap baselines on the same rows."""

import logging
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skip_exp.data.rows import Rows, get_labels
from skip_exp.outcomes.scores import Labels
from skip_exp.phases.fit import start_readout
from skip_exp.phases.job import Job
from skip_exp.skill.record import SkillRecord
from skip_exp.skill.skill import Skill
from skip_exp.within import show
from skip_exp.within.choose import Speed, Split

log = logging.getLogger(__name__)

STRENGTHS = (1.0, 10.0, 100.0)  # of logistic regression (C); the slice chooses
STEPS = 1000  # of its solver, at most
WORDS = 50_000  # and pairs, the most frequent: memory grows with their number times the classes


@dataclass(frozen=True)
class Baseline:
    """A model to compare with.

    Attributes:
        predict: indices of the likeliest classes [n] of texts or pairs.
        mb: size in 10^6 bytes.
    """

    name: str
    predict: Callable[[list[list[str]]], Labels]
    mb: float


def fit_baselines(job: Job, about: SkillRecord, train: Split, select: Split) -> list[Baseline]:
    """TF-IDF and, unless the backbone itself is a fine-tuned classifier, a head on its features.

    Args:
        about: record of a skill of the job.
    """
    baselines = []
    words = fit_words(train, select)
    if words:
        baselines.append(words)
    if job.cfg.backbone.readout != "classifier":
        baselines.append(fit_head(job, about))
    return baselines


def fit_words(train: Split, select: Split) -> Baseline | None:
    """Words and pairs of words, weighted by TF-IDF, and logistic regression.

    The best one on the selection slice; None where no text has a word of two letters.
    """
    # Few rows need another strength than many: the slice decides, as it does for the models.
    best: Any = None
    highest = -np.inf
    for strength in STRENGTHS:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=WORDS)
        pipeline = make_pipeline(words, LogisticRegression(C=strength, max_iter=STEPS))
        try:
            pipeline.fit(_joined(train.texts), train.labels)
        except ValueError as error:
            log.info("left out: TF-IDF: %s", error)
            return None
        score = select.score(pipeline.predict(_joined(select.texts)))
        if score > highest:
            best = pipeline
            highest = score
    return Baseline(
        name=show.TF_IDF,
        predict=lambda texts: best.predict(_joined(texts)),
        mb=len(pickle.dumps(best)) / 1e6,
    )


def fit_head(job: Job, about: SkillRecord) -> Baseline:
    """Logistic regression on the features of the frozen backbone, in fp32."""
    cfg = replace(
        job.cfg,
        prompt=replace(job.cfg.prompt, kind="none"),
        tune=replace(job.cfg.tune, train="prompt_readout"),
    )
    backbone = replace(job.backbone, readout="head")
    # A linear readout starts as logistic regression: no training follows.
    model = replace(job, cfg=cfg, backbone=backbone, start=None).new_model()
    start_readout(job.trainer, model, job.data, job.backbone.path, "baseline")
    skill = Skill(about, job.data.tokenizer, model.on("cpu"), {})

    def predict(texts: list[list[str]]) -> Labels:
        return np.array(skill.probabilities(texts)).argmax(1)

    return Baseline(show.HEAD, predict, skill.megabytes)


def _joined(texts: Sequence[Sequence[str]]) -> list[str]:
    return [" ".join(pair) for pair in texts]


def describe_baselines(
    rows: Rows,
    baselines: Sequence[Baseline],
    speeds: Sequence[Speed],
    select: Split,
    validation: Split,
) -> list[show.Line]:
    """Always answering the train rows' most frequent class; and ``baselines``."""
    frequent, _ = Counter(get_labels(rows.train)).most_common(1)[0]
    majority = show.Line(
        model="majority class",
        select=select.score(np.full(len(select.labels), frequent)),
        predicted=np.full(len(validation.labels), frequent),
    )
    lines = [majority]
    for baseline, speed in zip(baselines, speeds, strict=True):
        lines.append(
            show.Line(
                model=baseline.name,
                select=select.score(baseline.predict(select.texts)),
                predicted=baseline.predict(validation.texts),
                speed=speed,
                mb=baseline.mb,
            )
        )
    return lines
