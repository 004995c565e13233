"""What a user could take instead: cheap baselines on the same rows."""

import logging
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from skip_exp.data.rows import Rows, get_labels
from skip_exp.outcomes.scores import Labels
from skip_exp.phases.fit import fit_readout
from skip_exp.phases.job import Job
from skip_exp.skill.record import SkillRecord
from skip_exp.skill.skill import Skill
from skip_exp.within import show
from skip_exp.within.choose import Speed, Split

log = logging.getLogger(__name__)

TERMS = 50_000  # the most frequent: memory grows with their number times the classes


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


def fit_baselines(job: Job, about: SkillRecord, train: Split) -> list[Baseline]:
    """TF-IDF and, unless the backbone itself is a fine-tuned classifier, a head on its features.

    Args:
        about: record of a skill of the job.
    """
    baselines = []
    words = fit_words(train)
    if words:
        baselines.append(words)
    if job.cfg.backbone.readout != "classifier":
        baselines.append(fit_head(job, about))
    return baselines


def fit_words(train: Split) -> Baseline | None:
    """Words, pairs of words and pieces of words, weighted by TF-IDF, and a linear SVM.

    None where no text has a letter.
    """
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=TERMS)
    pieces = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=TERMS
    )
    # Its strength needs no search: on 400 to 9,000 rows none has 1 point more on the slice.
    pipeline = make_pipeline(make_union(words, pieces), LinearSVC())
    try:
        pipeline.fit(_joined(train.texts), train.labels)
    except ValueError as error:
        log.info("left out: TF-IDF: %s", error)
        return None
    return Baseline(
        name=show.TF_IDF,
        predict=lambda texts: pipeline.predict(_joined(texts)),
        mb=len(pickle.dumps(pipeline)) / 1e6,
    )


def fit_head(job: Job, about: SkillRecord) -> Baseline:
    """Logistic regression on the features of the frozen backbone, in fp32."""
    cfg = replace(
        job.cfg,
        prompt=replace(job.cfg.prompt, kind="none"),
        tune=replace(job.cfg.tune, train="prompt_readout"),
    )
    backbone = replace(job.backbone, readout="head")
    # A linear readout is fitted before training, which does not follow.
    model = replace(job, cfg=cfg, backbone=backbone, start=None).new_model()
    fit_readout(job.trainer, model, job.data, "baseline")
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
