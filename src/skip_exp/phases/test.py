"""test: the dense, the pruned and the final model are scored, the reported split once."""

import logging
from typing import Any

from skip_exp.cache.store import Entry
from skip_exp.callbacks.epochs import Batches
from skip_exp.data.metrics import build_metrics
from skip_exp.job.job import Job
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training.module import PromptTuner
from skip_exp.training.trainer import eval_trainer

log = logging.getLogger(__name__)


def test(
    job: Job, dense: SoftPromptModel, pruned: SoftPromptModel, final: SoftPromptModel
) -> dict[str, Any]:
    """Scores of the three models, in fp32; without re-tuning pruned and final are the same."""
    entry = job.stage("score", lambda: Entry(values=score(job, dense)))
    found = {"dense": entry.values}
    _log("dense", entry.values, " (from the cache)" if entry.hit else "")
    for state, model in (("pruned", pruned), ("final", final)):
        if state == "pruned" or job.cfg.retune.enabled:
            scored = score(job, model)
            _log(state, scored)
        found[state] = scored
    return found


def _log(state: str, found: dict[str, Any], note: str = "") -> None:
    scores = (f"{name} {100 * value:.1f}" for name, value in found["validation"].items())
    log.info("%-6s  %s%s", state, "  ".join(scores), note)


def score(job: Job, model: SoftPromptModel) -> dict[str, Any]:
    """Every metric on the selection slice, the validation split and the task's extra splits.

    Returns {select: {metric: value}, validation: ..., extra: {split: ...}}.
    """
    data = job.batches(job.cfg.retune, "test")
    extra = {s: score_rows(job, model, data.extra_dataloader(s)) for s in job.data.spec.extra}
    return {
        "select": score_rows(job, model, data.val_dataloader()),
        "validation": score_rows(job, model, data.test_dataloader()),
        "extra": extra,
    }


def select_score(job: Job, model: SoftPromptModel) -> float:
    """The main metric on the selection slice."""
    data = job.batches(job.cfg.retune, "test")
    return score_rows(job, model, data.val_dataloader())[job.metric]


def score_rows(job: Job, model: SoftPromptModel, loader: Any) -> dict[str, float]:
    """{metric: value} of one model on the rows of ``loader``."""
    tuner = PromptTuner(model, "test", job.cfg.retune, build_metrics(job.data.spec))
    trainer = eval_trainer(job.trainer, [Batches("scoring")])
    return dict(trainer.test(tuner, loader, verbose=False)[0])
