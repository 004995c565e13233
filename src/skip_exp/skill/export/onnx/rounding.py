"""Whether a model in 8 bits answers as in fp32, on the rows on which its job made its choices."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skip_exp.config.groups import TaskConfig
from skip_exp.data.batches import Row
from skip_exp.data.rows import get_labels, get_texts
from skip_exp.errors import SkipError
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.evaluate import score_answers
from skip_exp.skill.export.onnx.runtime import OnnxSkill
from skip_exp.skill.job_rows import read_job_rows
from skip_exp.utils import console

log = logging.getLogger(__name__)

ALLOWED = 0.005  # loss of the main metric, a fraction
DRIFT = 0.1  # largest change of a probability, where the rows are not there


@dataclass(frozen=True)
class Rounding:
    """What 8 bits change.

    Attributes:
        rows: that were compared.
        before, after: the main metric, as a fraction.
        equal: fraction of the rows that have the same answer.
        drift: the largest change of a probability of a row, mean over the rows.
    """

    metric: str
    rows: int
    before: float
    after: float
    equal: float
    drift: float

    def __str__(self) -> str:
        scores = f"{self.metric} {100 * self.after:.1f}, in fp32 {100 * self.before:.1f}"
        same = f"{100 * self.equal:.1f} % equal answers, mean drift {self.drift:.3f}"
        return f"{scores}; {same}; on {self.rows} rows of the selection slice"

    @property
    def is_allowed(self) -> bool:
        """Whether the loss is at most ``ALLOWED``, its standard error not counted.

        A row whose answer changes moves a metric by about 1 / rows.
        """
        error = math.sqrt((1 - self.equal) / self.rows)
        return self.before - self.after - error <= ALLOWED


def check_rounding(
    skill: Classifier, source: Path | None, folder: Path, drift: float
) -> Rounding | None:
    """Log what 8 bits change, and return it; None where the job's rows are gone.

    Args:
        skill: read from ``source``.
        folder: of its export.
        drift: of a probability on texts of no task, which decides where the job's rows are gone.

    Raises:
        SkipError: the export loses too much.
    """
    try:
        with console.say_nothing():
            rows = read_job_rows(skill.about, source)
    except SkipError as error:
        if not drift <= DRIFT:  # NaN is refused, too
            why = f"probabilities differ from PyTorch's by {drift:.2g} on five texts"
            raise SkipError(f"--int8: {why}, allowed: {DRIFT}; leave out --int8") from error
        log.info("8 bits: not compared with fp32 on the job's rows: %s", error)
        return None
    found = compare_rounded(skill, OnnxSkill.load(folder), rows.spec, rows.select)
    if not found.is_allowed:
        raise SkipError(f"--int8: {found}; leave out --int8, or cut less")
    log.info("8 bits: %s", found)
    return found


def compare_rounded(
    plain: Classifier, rounded: Classifier, spec: TaskConfig, rows: Sequence[Row]
) -> Rounding:
    """Compare a skill with its 8-bit export on rows of its task. Raises SkipError."""
    about, texts = plain.about, [list(each) for each in get_texts(rows)]
    true, metric = np.array(get_labels(rows)), spec.metrics[0]
    answers = [np.array(each.probabilities(texts)) for each in (plain, rounded)]
    before, after = (score_answers(spec, each, true, about.threshold) for each in answers)
    first, second = (about.outcome.give(each, about.threshold) for each in answers)
    return Rounding(
        metric=metric,
        rows=len(texts),
        before=before[metric],
        after=after[metric],
        equal=float((first == second).reshape(len(texts), -1).all(1).mean()),
        drift=float(np.abs(answers[0] - answers[1]).max(1).mean()),
    )
