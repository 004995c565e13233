"""The tuner under Lightning's trainer."""

import csv
import io
import math
import multiprocessing
import os
import re
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy

from skip_exp.config.schema import TrainerConfig
from skip_exp.config.train import RetuneConfig, TrainConfig
from skip_exp.data.batches import collate
from skip_exp.errors import ConfigError, SkipError
from skip_exp.models import lora
from skip_exp.models.soft_prompt import trainable_state
from skip_exp.pruning.surgery import cut
from skip_exp.training import trainer as trainers
from skip_exp.training.module import PromptTuner, linear, soft_loss
from skip_exp.training.trainer import usable
from skip_exp.utils import bars
from tests.helpers.tiny import tiny_model

QUIET = TrainerConfig(accelerator="cpu", precision="32-true", progress=False)
ROWS: Any = [{"input_ids": [5 + i, 20, 30 + i], "label": i % 2} for i in range(10)]


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
    with pytest.raises(SkipError, match=r"^retune\.train=prompt: "):
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
    modes = []

    def seen(*_: Any) -> None:
        backbone = {module.training for module in tuned.model.backbone.modules()}
        modes.append((tuned.training, *backbone))

    tuned.model.register_forward_pre_hook(seen)
    fit(tuned, tmp_path)
    assert set(modes) == {(True, dropout), (False, False)}


@pytest.mark.parametrize("lr", [0.1, float("nan")])
def test_a_fit_leaves_the_shared_backbone_in_eval_mode(lr: float) -> None:
    """Also one that fails: the next job of the process computes with this backbone."""
    tuned = tuner(dropout=True, epochs=1)
    tuned.settings.lr = lr
    refused = pytest.raises(SkipError, match=r"^tune\.lr=nan, tune\.readout_lr=")
    with nullcontext() if lr == 0.1 else refused:
        trainers.fit(tuned, Batches(), QUIET, "accuracy", 1, None, 16)
    assert not any(module.training for module in tuned.model.modules())


def test_a_fit_of_one_process_leaves_the_callers_own_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MASTER_PORT", "1234")
    children = []

    class Starting(Batches):
        def train_dataloader(self) -> DataLoader[Any]:
            spawn = multiprocessing.get_context("spawn")
            children.append(spawn.Process(target=time.sleep, args=(60,)))
            children[-1].start()
            return loader()

    try:
        trainers.fit(tuner(epochs=1), Starting(), QUIET, "accuracy", 1, None, 16)
        assert os.environ["MASTER_PORT"] == "1234" and children[0].is_alive()
    finally:
        for child in children:
            child.kill()


class Batches(L.LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return loader()

    def val_dataloader(self) -> DataLoader[Any]:
        return loader()


def predicted(tuned: PromptTuner, rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels."""
    batch = collate(rows, 0)
    with torch.no_grad():
        return tuned.model(batch["input_ids"], batch["attention_mask"]), batch["labels"]


def test_the_loss_on_the_selection_slice_is_the_mean_over_its_rows(tmp_path: Any) -> None:
    tuned = tuner()
    trainer = fit(tuned, tmp_path)
    expected = F.cross_entropy(*predicted(tuned, ROWS))  # batches of 4, 4 and 2 rows
    assert float(trainer.callback_metrics["tune/select_loss"]) == pytest.approx(float(expected))


def test_factors_have_a_learning_rate_of_their_own(tmp_path: Any) -> None:
    settings = {"lr": 0.1, "readout_lr": 0.2, "bias_lr": 0.3, "lora_lr": 0.4, "weight_decay": 0.0}
    tuned = tuner()
    tuned.settings = TrainConfig(batch=4, train="lora", dropout=False, **settings)  # type: ignore[arg-type]
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


def test_short_epochs_have_a_training_loss(tmp_path: Any) -> None:
    tuned, logger = tuner(epochs=2), CSVLogger(tmp_path, name=None, version="csv")
    trainers.fit(tuned, Batches(), QUIET, "accuracy", 1, logger, 16)
    rows = list(csv.DictReader((tmp_path / "csv/metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows if row["tune/train_loss"]] == [2, 5]


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


# --- settings that this machine may lack --------------------------------------------------------


def machine(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)  # Apple's has no fp64


@pytest.mark.parametrize(
    ("given", "gpus", "key"),
    [
        ({"devices": 0}, 2, "devices=0"),
        ({"devices": 4}, 2, "devices=4"),
        ({"accelerator": "gpu"}, 0, "accelerator=gpu"),
        # Lightning would compute in bf16 instead.
        ({"accelerator": "cpu", "precision": "16-mixed"}, 0, "precision=16-mixed"),
    ],
)
def test_refused_settings(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], gpus: int, key: str
) -> None:
    machine(monkeypatch, gpus)
    with pytest.raises(ConfigError, match=f"^trainer.{key}: "):
        usable(TrainerConfig(**{"precision": "32-true", **given}))


@pytest.mark.parametrize(
    ("asked", "gpus", "found"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda"), ("gpu", 2, "cuda"), ("cpu", 2, "cpu")],
)
def test_auto_is_cuda_or_the_processor(
    monkeypatch: pytest.MonkeyPatch, asked: str, gpus: int, found: str
) -> None:
    machine(monkeypatch, gpus)
    assert usable(TrainerConfig(asked, precision="32-true")).accelerator == found


@pytest.mark.parametrize(("native", "found"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_is_bf16_where_the_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, found: str
) -> None:
    machine(monkeypatch, 1)
    # PyTorch counts an emulation, too, unless told otherwise.
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    assert usable(TrainerConfig("gpu", precision="auto")).precision == found


def test_workers_of_joblib_start_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda **_: "loky")
    assert usable(TrainerConfig("cpu", 1)).devices == 1
    with pytest.raises(ConfigError, match=r"^trainer\.devices=4: "):
        usable(TrainerConfig("cpu", 4))


# --- output -------------------------------------------------------------------------------------


def told_by(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [r for r in caplog.records if r.name == "skip_exp.callbacks.epochs"]
    return [re.sub(r"\d+\.\d+", "x", record.getMessage()) for record in records]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_line_per_epoch_in_a_file_as_in_a_terminal(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: Any
) -> None:
    caplog.set_level("INFO", "skip_exp")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    with bars.allowed(True):
        trainers.fit(
            tuner(epochs=2), Batches(), replace(QUIET, progress=True), "accuracy", 1, None, 16
        )
    lines = told_by(caplog)
    assert [line.partition("  about")[0] for line in lines] == [
        f"epoch {n} of 2  accuracy x  loss x" for n in (0, 1, 2)
    ]
    assert ["  about " in line for line in lines] == [False, True, False]
    assert max(map(len, lines)) < 80
    assert "\r" not in "".join(capsys.readouterr())  # quick epochs need no bar


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_long_pass_has_a_bar_on_a_terminal(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen: Any = io.StringIO()
    screen.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(bars, "AFTER", 0)  # any pass counts as long
    with bars.allowed(True):
        trainers.fit(
            tuner(epochs=1), Batches(), replace(QUIET, progress=True), "accuracy", 1, None, 16
        )
    for name in ("epoch 1 of 1 |", "selection slice |"):
        assert (name in screen.getvalue()) == is_terminal
    assert "\n" not in screen.getvalue()


def test_without_progress_no_line_is_logged(caplog: Any) -> None:
    caplog.set_level("INFO", "skip_exp")
    trainers.fit(tuner(epochs=1), Batches(), QUIET, "accuracy", 1, None, 16)
    assert told_by(caplog) == []
