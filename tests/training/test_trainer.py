"""The tuner and the scorer under Lightning's trainer."""

import csv
import math
from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader

from skip_exp.callbacks.fit import Curves
from skip_exp.config.groups import RetuneConfig, TaskConfig, TrainConfig
from skip_exp.config.schema import TrainerConfig
from skip_exp.data.batches import UNLABELLED, collate
from skip_exp.errors import ConfigError, SkipError
from skip_exp.models.readouts import watch_features
from skip_exp.models.surgery import cut, shapes_of
from skip_exp.models.trained import list_factors, train_only, trainable_state
from skip_exp.outcomes.one_label import OneLabel
from skip_exp.training import trainer as trainers
from skip_exp.training.module import (
    CONTRAST_TEMPERATURE,
    PROBE_STRENGTH,
    PromptTuner,
    contrastive_loss,
    fit_linear,
)
from skip_exp.training.trainer import usable
from tests.helpers.tiny import tiny_model

QUIET = TrainerConfig(accelerator="cpu", precision="32-true", progress=False)
ROWS: Any = [{"input_ids": [5 + i, 20, 30 + i], "label": i % 2} for i in range(10)]

TASK = TaskConfig("toy", text=["s"], labels=["bad", "good"], metrics=["accuracy"])


def tuner(distill: float = 0.0, **settings: Any) -> PromptTuner:
    model = tiny_model("bert", "prefix", "head", labels=2).eval()  # as attribution leaves it
    given = {"epochs": 1, "lr": 0.1, "batch": 4, "dropout": False, "train": "prompt"}
    config = TrainConfig(**{**given, **settings})
    return PromptTuner(model, "tune", config, TASK, distill)


def loader() -> DataLoader[Any]:
    """Three batches, of 4, 4 and 2 rows."""
    return DataLoader(ROWS, 4, collate_fn=lambda rows: collate(rows, 0))


class Batches(L.LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return loader()

    def val_dataloader(self) -> DataLoader[Any]:
        return loader()


def fit(tuned: PromptTuner, data: Any = None, loggers: Any = (), progress: bool = False) -> Curves:
    settings = replace(QUIET, progress=progress)
    return trainers.fit(tuned, data or Batches(), settings, "accuracy", 1, loggers, 16)[1]


def test_a_prompt_that_was_cut_away_whole_cannot_be_trained() -> None:
    model = tiny_model("t5", "prefix", "seq2seq", labels=2)
    names = [shape.name for shape in shapes_of(model) if shape.name.part == "self"]
    smaller = cut(model, {name.site: torch.arange(0) for name in names})
    train_only(smaller, "prompt")
    module = PromptTuner(smaller, "retune", RetuneConfig(train="prompt"), TASK)
    with pytest.raises(SkipError, match=r"^retune\.train=prompt: "):
        module.training_step(collate(ROWS[:2], 0), 0)


@pytest.mark.parametrize("dropout", [False, True])
def test_the_backbone_drops_out_where_it_is_asked_to(dropout: bool) -> None:
    """And is in eval mode afterwards: the next job of the process computes with it."""
    tuned, modes = tuner(dropout=dropout), []

    def seen(*_: Any) -> None:
        backbone = {module.training for module in tuned.model.backbone.modules()}
        modes.append((tuned.training, *backbone))

    tuned.model.register_forward_pre_hook(seen)
    fit(tuned)
    assert set(modes) == {(True, dropout), (False, False)}
    assert not any(module.training for module in tuned.model.modules())


def test_a_loss_that_is_not_finite_ends_the_fit() -> None:
    tuned = tuner(dropout=True)
    tuned.settings.lr = float("nan")
    with pytest.raises(SkipError, match=r"^tune\.lr=nan, tune\.readout_lr="):
        fit(tuned)
    assert not any(module.training for module in tuned.model.modules())


def test_the_selection_slice_is_scored_over_its_rows_whatever_the_batches() -> None:
    tuned = tuner()
    points = fit(tuned).points
    batch = collate(ROWS, 0)
    with torch.no_grad():
        logits = tuned.model(batch["input_ids"], batch["attention_mask"])
    loss = F.cross_entropy(logits, batch["labels"])
    right = (logits.argmax(-1) == batch["labels"]).float().mean()
    assert points[-1]["select_loss"] == pytest.approx(float(loss))
    assert points[-1]["select_accuracy"] == pytest.approx(float(right))


@pytest.mark.parametrize("train", ["lora", "gates", "layers", "full"])
def test_every_part_has_a_learning_rate_of_its_own(train: str) -> None:
    rates = {"lr": 0.1, "readout_lr": 0.2, "bias_lr": 0.3, "full_lr": 0.35}
    rates |= {"gate_lr": 0.38, "lora_lr": 0.4}
    tuned = tuner(train=train, **rates)
    train_only(tuned.model, train, rank=2)
    before = trainable_state(tuned.model)
    fit(tuned)
    (optimizer,) = tuned.trainer.optimizers
    backbone = {"lora": [0.3, 0.4], "gates": [0.3, 0.38], "layers": [0.35], "full": [0.35]}[train]
    groups = optimizer.param_groups
    assert [group["initial_lr"] for group in groups] == [0.1, 0.2, *backbone]
    trained = [p for p in tuned.model.parameters() if p.requires_grad]
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in trained}
    if train == "lora":
        factors = list_factors(tuned.model.backbone)
        assert [id(p) for p in groups[3]["params"]] == [id(p) for p in factors]
    after = trainable_state(tuned.model)
    assert not any(after[name].equal(before[name]) for name in before if "lora_B" in name)


def test_a_rate_is_logged_with_its_key_and_a_loss_of_short_epochs(tmp_path: Any) -> None:
    fit(tuner(epochs=2, warmup=0), loggers=[CSVLogger(tmp_path, name=None, version="csv")])
    rows = list(csv.DictReader((tmp_path / "csv/metrics.csv").read_text().splitlines()))
    rates = {int(row["step"]): float(row["tune/lr"]) for row in rows if row["tune/lr"]}
    assert rates == pytest.approx({2: 0.1 * 4 / 6, 5: 0.1 * 1 / 6})  # of six steps, down to 0
    assert [int(row["step"]) for row in rows if row["tune/train_loss"]] == [2, 5]


def test_soft_loss() -> None:
    # Softened by two: odds of 3 to 1 against even ones. 4 * (0.75 ln 1.5 + 0.25 ln 0.5) = 0.5232
    odds = torch.tensor([[2 * math.log(3.0), 0.0]])
    assert float(OneLabel().soft_loss(torch.zeros(1, 2), odds)) == pytest.approx(0.52325, abs=1e-5)
    shifted = torch.tensor([[2 * math.log(3.0) + 7, 7.0]])  # logits are probabilities up to this
    assert float(OneLabel().soft_loss(shifted, odds)) == pytest.approx(0, abs=1e-6)


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


def test_the_loss_is_the_mean_over_rows_of_cross_entropies() -> None:
    """A row without a label counts as a row of loss 0."""
    rows = [row | {"teacher": torch.tensor([1.0, -1.0])} for row in ROWS[:4]]
    rows[3] = rows[3] | {"label": UNLABELLED}
    batch, tuned = collate(rows, 0), tuner()
    tuned.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    loss = float(tuned.training_step(batch, 0))
    with torch.no_grad():
        logits = tuned.model(batch["input_ids"], batch["attention_mask"])
    known = F.cross_entropy(logits[:3], batch["labels"][:3], reduction="sum")
    assert loss == float(known / 4)  # to the bit
    log_p = logits.log_softmax(-1)
    first, second, third = (-float(log_p[row, row % 2]) for row in range(3))
    assert loss == pytest.approx((first + second + third) / 4)


def test_contrastive_loss_by_hand() -> None:
    """Two texts of a label at right angles, a third that is opposite to the first, one unknown."""
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, -1.0]])
    labels = torch.tensor([0, 0, 1, UNLABELLED])
    far = math.exp(-1 / CONTRAST_TEMPERATURE)
    first = -math.log(1 / (1 + far + 1))  # similarity 0, -1, 0 to the others
    second = -math.log(1 / (1 + 1 + far))
    expected = (first + second) / 2  # the third has no partner
    assert float(contrastive_loss(features, labels)) == pytest.approx(expected, rel=1e-6)
    assert float(contrastive_loss(features[1:], labels[1:])) == 0.0
    together = features.clone()
    together[1] = together[0]
    assert contrastive_loss(together, labels) < contrastive_loss(features, labels)


@pytest.mark.parametrize(
    ("kind", "readout", "batch", "is_contrasted"),
    [
        ("bert", "head", 8, True),
        ("bert", "head", 7, False),
        ("bert", "mlm", 8, False),
        ("t5", "seq2seq", 8, False),
    ],
)
def test_what_the_class_layer_reads_is_pulled_together(
    kind: str, readout: str, batch: int, is_contrasted: bool
) -> None:
    losses = {}
    for contrast in (0.0, 0.5):
        tuned = tuner(contrast=contrast, batch=batch)
        tuned.model = tiny_model(kind, "prefix", readout, labels=2).eval()
        tuned.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
        rows = collate(ROWS, 0)
        losses[contrast] = float(tuned.training_step(rows, 0))
        assert tuned.is_contrasted == (is_contrasted and contrast > 0)
    if not is_contrasted:
        assert losses[0.5] == losses[0.0]
        return
    with torch.no_grad(), watch_features(tuned.model.readout) as features:
        tuned.model(rows["input_ids"], rows["attention_mask"])
    pull = float(contrastive_loss(features[0], rows["labels"]))
    assert losses[0.5] == pytest.approx(losses[0.0] + 0.5 * pull)


def test_a_head_starts_as_logistic_regression() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 5)), rng.choice(3, p=[0.7, 0.2, 0.1], size=60)
    linear = torch.nn.Linear(5, 3)
    fit_linear(linear, torch.tensor(x, dtype=torch.float32), torch.tensor(y), OneLabel())
    expected = LogisticRegression(C=PROBE_STRENGTH, tol=1e-8, max_iter=1000).fit(x, y)
    found = linear(torch.tensor(x, dtype=torch.float32)).softmax(-1).detach()
    np.testing.assert_allclose(found, expected.predict_proba(x), atol=2e-3)


def test_a_class_without_rows_is_unlikely_and_what_is_frozen_stays() -> None:
    linear = torch.nn.Linear(4, 3)
    linear.bias.requires_grad_(False).fill_(0.5)
    with torch.inference_mode():  # as a phase may call it
        x = torch.eye(4)
    fit_linear(linear, x.clone(), torch.tensor([0, 1, 0, 1]), OneLabel())
    assert linear(torch.eye(4)).argmax(-1).tolist() == [0, 1, 0, 1]
    assert linear.bias.tolist() == [0.5] * 3


# --- settings that this machine may lack --------------------------------------------------------


def machine(monkeypatch: pytest.MonkeyPatch, gpus: int, has_bf16: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)  # Apple's has no fp64
    # PyTorch counts an emulation, too, unless told otherwise.
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or has_bf16,
    )


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"accelerator": "gpu"}, "accelerator=gpu"),
        # Lightning would compute in bf16 instead.
        ({"accelerator": "cpu", "precision": "16-mixed"}, "precision=16-mixed"),
    ],
)
def test_refused_settings(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], key: str) -> None:
    machine(monkeypatch, gpus=0)
    with pytest.raises(ConfigError, match=f"^trainer.{key}: "):
        usable(TrainerConfig(**{"precision": "32-true", **given}))


@pytest.mark.parametrize(
    ("asked", "gpus", "has_bf16", "found"),
    [
        *(("auto", 0, False, "cpu"), ("cpu", 2, True, "cpu")),
        *(("auto", 2, True, "bf16-mixed"), ("gpu", 1, False, "32-true")),
    ],
)
def test_auto_is_what_computes_fastest(
    monkeypatch: pytest.MonkeyPatch, asked: str, gpus: int, has_bf16: bool, found: str
) -> None:
    machine(monkeypatch, gpus, has_bf16)
    settings = usable(TrainerConfig(asked))
    on_gpu = found != "cpu"
    assert settings.accelerator == ("cuda" if on_gpu else "cpu")
    assert settings.precision == found or not on_gpu  # the processor decides elsewhere


# --- output -------------------------------------------------------------------------------------
