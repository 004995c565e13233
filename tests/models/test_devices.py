"""On a GPU no step is waited for, and no tensor is elsewhere: shown on the meta device."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skip_exp.config.groups import RetuneConfig, TaskConfig
from skip_exp.config.schema import BenchmarkConfig
from skip_exp.models.family import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut, shapes_of, site_sizes
from skip_exp.models.trained import train_only
from skip_exp.phases.measure import compare
from skip_exp.training.module import PromptTuner
from tests.helpers.tiny import KINDS, READOUT, tiny_batch, tiny_inputs, tiny_model

# Their results, or the sizes of their results, are data: the host waits for the device to know.
WAITS = (
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select"),
    *("unique", "_unique2", "bincount", "repeat_interleave.Tensor", "linalg_cholesky"),
)


class Watch(TorchDispatchMode):
    """Notes every operation that waits for the device, copies to or from it, or mixes devices.

    Attributes:
        waits: names of operations that a GPU's host has to wait for.
        copies: names of operations between the devices: a copy of each batch is one per tensor.
        mixed: names of operations on tensors of several devices, which a GPU refuses.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.copies: list[str] = []
        self.mixed: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        inside = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        devices = {x.device.type for x in inside if x.dim()}  # a scalar of the host is no operand
        indices = args[1] if name in ("index", "index_put_", "index_put") else ()
        if name in ("_to_copy", "copy_"):
            to = torch.device(kwargs.get("device") or args[0].device).type
            self.copies += [name] * any(x.device.type != to for x in inside)
        elif any(x.device.type != "cpu" for x in inside):  # an optimizer counts its steps there
            is_mask = [isinstance(x, Tensor) and x.dtype == torch.bool for x in indices]
            if name in WAITS or f"{name}.{function._overloadname}" in WAITS or any(is_mask):
                self.waits.append(name)
            if len(devices) > 1:
                self.mixed.append(name)
        return function(*args, **kwargs)

    @property
    def found(self) -> dict[str, list[str]]:
        """What there was of each."""
        return {"waits": self.waits, "copies": self.copies, "mixed": self.mixed}


NOTHING: dict[str, list[str]] = {"waits": [], "copies": [], "mixed": []}


CASES = [  # every family, prompt and readout
    *((kind, "prefix", READOUT[kind]) for kind in KINDS),
    *(("bert", "input", "mlm"), ("t5", "input", "head"), ("modernbert", "none", "mlm")),
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
