"""The tuner under Lightning's trainer."""

import csv
import math
import multiprocessing
import re
import sys
from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy

from skip_exp.callbacks.curves import Curves
from skip_exp.callbacks.epochs import EpochLines
from skip_exp.config.schema import RetuneConfig, TrainConfig, TrainerConfig
from skip_exp.data.batches import collate
from skip_exp.errors import ConfigError, SkipError
from skip_exp.models import lora
from skip_exp.models.soft_prompt import trainable_state
from skip_exp.phases.tune import after
from skip_exp.pruning.surgery import cut
from skip_exp.training.module import PromptTuner, linear, soft_loss
from skip_exp.training.trainer import fit_trainer, progress
from tests.helpers.tiny import tiny_model

QUIET = TrainerConfig(accelerator="cpu", precision="32-true", progress=False)
ROWS: Any = [
    {"input_ids": [5 + i, 20, 30 + i], "label": i % 2, "half": i % 3 % 2} for i in range(10)
]


def tuner(dropout: bool = False, **settings: Any) -> PromptTuner:
    model = tiny_model("bert", "prefix", "head", labels=2).eval()  # as attribution leaves it
    config = TrainConfig(lr=0.1, batch=4, dropout=dropout, train="prompt", **settings)
    return PromptTuner(model, "tune", config, MetricCollection({"accuracy": BinaryAccuracy()}))


def test_the_rate_goes_up_then_down() -> None:
    factor = linear(2, 6)
    assert [factor(step) for step in range(8)] == [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert linear(0, 2)(0) == 1.0
    assert linear(3, 3)(3) == 0.0  # nothing but a start


def test_a_prompt_that_was_cut_away_whole_cannot_be_trained() -> None:
    model = tiny_model("t5", "prefix", "seq2seq", labels=2)
    names = [shape.name for shape in model.shapes() if shape.name.part == "self"]
    keep = {name.site("heads"): torch.arange(0) for name in names}
    smaller = cut(model, keep)
    smaller.train_only("prompt")
    module = PromptTuner(smaller, "retune", RetuneConfig(train="prompt"), MetricCollection({}))
    with pytest.raises(SkipError, match=r"retune\.train=prompt: all of it was cut away; needs"):
        module.training_step(collate(ROWS[:2], 0), 0)


def fit(tuned: PromptTuner, tmp_path: Any) -> L.Trainer:
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(tuned, loader(), loader())
    return trainer


def loader() -> DataLoader[Any]:
    """Three batches."""
    return DataLoader(ROWS, 4, collate_fn=lambda rows: collate(rows, 0))


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


def test_factors_have_a_learning_rate_of_their_own(tmp_path: Any) -> None:
    settings = {"lr": 0.1, "readout_lr": 0.2, "bias_lr": 0.3, "lora_lr": 0.4, "weight_decay": 0.0}
    tuned = tuner()
    tuned.settings = TrainConfig(batch=4, train="lora", **settings)  # type: ignore[arg-type]
    tuned.model.train_only("lora", rank=2)
    before = trainable_state(tuned.model)
    trainer = fit(tuned, tmp_path)
    (optimizer,) = trainer.optimizers
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.2, 0.3, 0.4]
    trained = [p for p in tuned.model.parameters() if p.requires_grad]
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in trained}
    factors = lora.factors(tuned.model.backbone)
    assert [id(p) for p in optimizer.param_groups[3]["params"]] == [id(p) for p in factors]
    after_fit = trainable_state(tuned.model)
    assert not any(after_fit[name].equal(before[name]) for name in before if "lora_B" in name)


def test_both_halves_of_the_slice_are_scored(tmp_path: Any) -> None:
    tuned, logger = tuner(epochs=1), CSVLogger(tmp_path, name=None, version="csv")
    trainer = fit_trainer(tuned, QUIET, "accuracy", logger, [Curves("tune")])
    trainer.fit(tuned, loader(), loader())
    for half in (0, 1):  # six rows and four; the last batch of two has one of each
        rows = collate([row for row in ROWS if row["half"] == half], 0)
        with torch.no_grad():
            logits, _ = tuned._loss(rows)
        expected = (logits.argmax(-1) == rows["labels"]).float().mean()
        assert float(trainer.callback_metrics[f"half{half}/accuracy"]) == pytest.approx(expected)
    assert "half" not in (tmp_path / "csv/metrics.csv").read_text()  # no curve of them


def test_a_batch_of_one_half_alone(tmp_path: Any) -> None:
    tuned = tuner()
    tuned.validation_step(collate([row | {"half": 1} for row in ROWS], 0), 0)
    first, second = tuned.half_metrics
    assert not first.accuracy.update_called and second.accuracy.update_called


def test_soft_loss() -> None:
    # Softened by two: odds of 3 to 1 against even ones. 4 * (0.75 ln 1.5 + 0.25 ln 0.5) = 0.5232
    odds = torch.tensor([[2 * math.log(3.0), 0.0]])
    assert float(soft_loss(torch.zeros(1, 2), odds)) == pytest.approx(0.52325, abs=1e-5)
    shifted = torch.tensor([[2 * math.log(3.0) + 7, 7.0]])  # logits are probabilities up to this
    assert float(soft_loss(shifted, odds)) == pytest.approx(0, abs=1e-6)


def test_distillation_mixes_hard_and_soft_labels() -> None:
    batch = collate([row | {"teacher": torch.tensor([1.0, -1.0])} for row in ROWS], 0)
    losses = {}
    for alpha in (0.0, 0.25, 1.0):
        tuned = tuner()
        tuned.distill = alpha
        tuned.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
        losses[alpha] = float(tuned.training_step(batch, 0))
    assert losses[0.0] != pytest.approx(losses[1.0])
    assert losses[0.25] == pytest.approx(0.75 * losses[0.0] + 0.25 * losses[1.0])


def test_short_epochs_have_a_training_loss(tmp_path: Any) -> None:
    tuned, logger = tuner(epochs=2), CSVLogger(tmp_path, name=None, version="csv")
    trainer = fit_trainer(tuned, QUIET, "accuracy", logger, [Curves("tune")])
    trainer.fit(tuned, loader(), loader())
    with (tmp_path / "csv/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["tune/train_loss"]] == [2, 5]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"distill": 1.5}, r"retune\.distill=1\.5: must be in \[0, 1\]"),
        ({"init": "cold"}, "retune.init=cold: must be one of warm, scratch"),
    ],
)
def test_refused_settings(setting: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        RetuneConfig(**setting)


def test_a_file_gets_a_line_per_epoch_and_a_terminal_a_bar(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: Any
) -> None:
    caplog.set_level("INFO", "skip_exp")
    tuned = tuner(epochs=2)
    trainer = fit_trainer(tuned, replace(QUIET, progress=True), "accuracy", None, [])
    trainer.fit(tuned, loader(), loader())
    told = [r.getMessage() for r in caplog.records if r.name == "skip_exp.callbacks.epochs"]
    assert [re.sub(r"0\.\d+", "0.x", line) for line in told] == [
        f"tune: epoch {n} of 2: train_loss 0.x, select_loss 0.x, select_accuracy 0.x"
        for n in (1, 2)
    ]
    assert "\r" not in "".join(capsys.readouterr())
    assert progress(QUIET) == []
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    (bar,) = progress(replace(QUIET, progress=True))
    assert isinstance(bar, TQDMProgressBar)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda **_: "loky")
    (lines,) = progress(replace(QUIET, progress=True))  # several jobs share that terminal
    assert isinstance(lines, EpochLines)


def test_when_a_fit_was_best() -> None:
    assert [after(n) for n in (0, 1, 2)] == [
        "before its first epoch", "after 1 epoch", "after 2 epochs"
    ]  # fmt: skip
