"""test: the dense, the pruned and the final model are scored, the reported split once."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skip_exp.cache.store import Entry, Keyed
from skip_exp.callbacks.fit import Batches
from skip_exp.config.schema import TrainerConfig
from skip_exp.data.batches import Row, order_by_length
from skip_exp.data.module import TextDataModule
from skip_exp.data.rows import Rows, get_labels
from skip_exp.models.readouts import ClassifierReadout, HeadReadout, Readout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.job import Job
from skip_exp.training.trainer import score

log = logging.getLogger(__name__)


def test(
    job: Job, dense: Keyed[SoftPromptModel], pruned: SoftPromptModel, final: SoftPromptModel
) -> dict[str, Entry]:
    """Scores of the three models, in fp32; without re-tuning pruned and final are the same."""
    data = job.dense_arguments["data"]
    entry = job.cache.stage(score_model, job.trainer, model=dense, data=data)  # for all ratios
    _log("dense", entry.values, " (from the cache)" if entry.hit else "")
    cut = score_model(job.trainer, model=pruned, data=job.data)
    _log("pruned", cut.values)
    if not job.cfg.retune.enabled:
        return {"dense": entry, "pruned": cut, "final": cut}
    retuned = score_model(job.trainer, model=final, data=job.data)
    _log("final", retuned.values)
    return {"dense": entry, "pruned": cut, "final": retuned}


def _log(state: str, found: dict[str, Any], note: str = "") -> None:
    scores = (f"{name} {100 * value:.1f}" for name, value in found["validation"].items())
    log.info("%-6s  %s%s", state, "  ".join(scores), note)


def score_model(trainer: TrainerConfig, *, model: SoftPromptModel, data: Rows) -> Entry:
    """Every metric on the selection slice, the validation split and the task's extra splits.

    With several labels per text, the slice sets the logit above which a label is given. Where F1
    macro comes first, it sets the ``shift`` of rare labels. The values are {select: {metric:
    value}, validation: ..., extra: {split: ...}, shift: [labels]}; the last one may be empty. The
    tensors are the logits of ``select`` and ``validation`` [rows, labels].
    """
    rows, shown, outcome = TextDataModule(data, 1, 0), [Batches("scoring")], data.spec.outcome
    select, of_select = score(trainer, model, data.spec, rows.val_dataloader(), shown)
    logits = {"select": _reorder(of_select, data.select)}
    answers, shift = (logits["select"].numpy(), np.array(get_labels(data.select))), list[float]()
    bound = outcome.find_bound(*answers)
    if _label_bias(model.readout) is not None:
        shift = outcome.find_shift(data.spec.metrics[0], *answers, get_labels(data.train))
    if shift:
        model = shift_labels(model, shift)
        select, of_select = score(trainer, model, data.spec, rows.val_dataloader(), shown)
        logits["select"] = _reorder(of_select, data.select)
    extra = {}
    for split in data.spec.extra:
        loader = rows.extra_dataloader(split)
        extra[split], _ = score(trainer, model, data.spec, loader, shown, bound)
    validation, of_rows = score(trainer, model, data.spec, rows.test_dataloader(), shown, bound)
    logits["validation"] = _reorder(of_rows, data.validation)
    values = {"select": select, "validation": validation, "extra": extra, "shift": shift}
    return Entry(logits, values)


def shift_labels(model: SoftPromptModel, shift: Sequence[float]) -> SoftPromptModel:
    """A copy, which shares the backbone's weights, with ``shift`` added to its logits [labels]."""
    moved = model.copy()
    bias = _label_bias(moved.readout)
    assert bias is not None
    with torch.no_grad():
        bias.add_(bias.new_tensor(shift))
    return moved


def _label_bias(readout: Readout) -> Tensor | None:
    """The bias of the class logits [labels], if they have one."""
    if isinstance(readout, HeadReadout):
        return readout.linear.bias
    return readout.out.bias if isinstance(readout, ClassifierReadout) else None


def _reorder(logits: Tensor, rows: list[Row]) -> Tensor:
    """Logits of a loader, which goes by length, in the order of the rows."""
    ordered = torch.empty_like(logits)
    ordered[order_by_length(rows)] = logits
    return ordered
