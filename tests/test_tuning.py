"""The tuner under Lightning's trainer."""

from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection

from skip_exp.data.encode import collate
from skip_exp.tuning import PromptTuner, TrainSettings
from tests.tiny import tiny_model

ROWS: Any = [{"input_ids": [5 + i, 20, 30 + i], "label": i % 2} for i in range(10)]


def tuner(dropout: bool = False) -> PromptTuner:
    model = tiny_model("bert", "prefix", "head", labels=2).eval()  # as attribution leaves it
    settings = TrainSettings(True, 1, 0.1, 0.1, 4, 0.0, 0.0, 1.0, 1, dropout, "prompt", 0.1)
    return PromptTuner(model, "tune", settings, MetricCollection([]))


def fit(tuned: PromptTuner, tmp_path: Any) -> L.Trainer:
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    loader = DataLoader(ROWS, 4, collate_fn=lambda rows: collate(rows, 0))
    trainer.fit(tuned, loader, loader)
    return trainer


@pytest.mark.parametrize("dropout", [False, True])
def test_the_backbone_drops_out_where_it_is_asked_to(dropout: bool, tmp_path: Any) -> None:
    tuned = tuner(dropout)
    loss, modes = tuned._loss, []

    def seen(batch: Any) -> Any:
        backbone = {module.training for module in tuned.model.backbone.modules()}
        modes.append((tuned.training, *backbone))
        return loss(batch)

    tuned._loss = seen  # type: ignore[method-assign]
    fit(tuned, tmp_path)
    assert set(modes) == {(True, dropout), (False, False)}


def test_the_loss_on_the_selection_slice_is_the_mean_over_its_rows(tmp_path: Any) -> None:
    tuned = tuner()
    trainer = fit(tuned, tmp_path)
    with torch.no_grad():
        _, expected = tuned._loss(collate(ROWS, 0))  # batches of 4, 4 and 2 rows
    assert float(trainer.callback_metrics["tune/select_loss"]) == pytest.approx(float(expected))
