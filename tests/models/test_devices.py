"""On a GPU no step is waited for, and no tensor is elsewhere: shown on the meta device."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from skip_exp.attribution.aggregate import Totals
from skip_exp.config.checks import READOUTS
from skip_exp.config.groups import RetuneConfig, TaskConfig, TrainConfig
from skip_exp.config.schema import BenchmarkConfig
from skip_exp.errors import SkipError
from skip_exp.models.shapes import shapes_of, site_sizes
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut
from skip_exp.models.trained import train_only
from skip_exp.phases.benchmark import compare
from skip_exp.training.module import PromptTuner
from tests.helpers.tiny import KINDS, tiny_batch, tiny_inputs, tiny_model
from tests.helpers.watch import NOTHING, Watch

CASES = [
    (kind, prompt, readout)
    for kind in KINDS
    for readout in READOUTS[kind.split("_")[0]]
    for prompt in ("input", "prefix", "none")
    if readout != "classifier"
]


def some(model: SoftPromptModel) -> Keep:
    """A keep that cuts every site; in every layer another number of heads."""
    keep = {}
    for site in site_sizes(shapes_of(model)):
        keep[site] = torch.arange(7 if site.kind == "ffn" else 1 + site.sublayer.layer % 2)
    return keep


def elsewhere(model: SoftPromptModel, batch: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """Copies on the meta device, which stands in for a GPU."""
    return copy.deepcopy(model).to("meta"), {name: x.to("meta") for name, x in batch.items()}


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize(("kind", "prompt", "readout"), CASES)
def test_a_pass_waits_for_nothing(kind: str, prompt: str, readout: str, is_cut: bool) -> None:
    model, batch = elsewhere(tiny_model(kind, prompt, readout), tiny_inputs(kind))
    model = cut(model, some(model)) if is_cut else model  # with indices that are on the CPU
    with Watch() as watch, torch.no_grad():
        logits = model(**batch)
    assert watch.found == NOTHING
    assert (logits.device.type, logits.shape) == ("meta", (4, 3))


@pytest.mark.parametrize(("kind", "prompt", "readout"), CASES)
def test_a_training_step_waits_for_nothing(
    kind: str, prompt: str, readout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = cut(full := tiny_model(kind, prompt, readout), some(full))
    train_only(model, "bias")
    model, batch = elsewhere(model, tiny_batch(kind))
    batch["teacher"] = torch.empty(4, 3, device="meta")
    tuner = PromptTuner(model, "retune", RetuneConfig(), TaskConfig(), 0.5)
    monkeypatch.setattr(tuner, "log", lambda *_, **__: None)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters)
    with Watch() as watch:
        tuner.training_step(batch, 0).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=False)
        optimizer.step()
    assert watch.found == NOTHING


def test_a_loss_is_looked_at_before_a_score_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = PromptTuner(tiny_model(), "tune", TrainConfig(), TaskConfig())
    monkeypatch.setattr(tuner, "log", lambda *_, **__: None)
    losses = iter(torch.tensor([1.0, torch.nan, 1.0, 1.0, torch.inf], requires_grad=True))
    monkeypatch.setattr("torch.nn.functional.cross_entropy", lambda *_, **__: next(losses))
    for steps, told in ((3, "nan"), (2, "inf")):
        for _ in range(steps):
            tuner.training_step(tiny_batch(), 0)
        with pytest.raises(SkipError, match=rf"^tune\.lr=0\.02, .*{told}"):
            tuner.on_validation_start()
    tuner.on_validation_start()  # nothing is left to look at


def test_scores_are_summed_where_they_are_computed() -> None:
    model = tiny_model()
    totals, rows = Totals(model), torch.empty(4, 20, device="meta")
    with Watch() as watch:
        for _ in range(3):
            totals.add("encoder.0.ffn", rows)
    assert watch.found == NOTHING | {"copies": ["_to_copy"]}  # the zeros that they begin with


@pytest.mark.parametrize("prompt", ["input", "prefix"])
@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_on_another_device_is_a_copy(kind: str, prompt: str) -> None:
    model = tiny_model(kind, prompt, "seq2seq" if kind == "t5" else "head")
    assert model.on("cpu") is model
    moved = model.on("meta")
    assert {p.device.type for p in moved.parameters()} == {"meta"}
    assert {p.device.type for p in (*model.parameters(), *model.buffers())} == {"cpu"}
    partly = copy.deepcopy(model)
    partly.prompt.to("meta")
    assert partly.on("meta") is not partly


def test_timing_leaves_the_models_where_they_are() -> None:
    """The loaded backbone serves further skills, which are made on the CPU."""
    dense = tiny_model()
    final = cut(dense, some(dense))
    settings = BenchmarkConfig(batch=2, seq_len=8, repeats=2)
    assert compare(dense, final, settings, "meta")["batch"] == 2
    for model in (dense, final):
        assert {p.device.type for p in model.parameters()} == {"cpu"}
