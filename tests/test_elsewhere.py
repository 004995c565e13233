"""No tensor is left on the CPU: shown on a device with numbers, on any machine.

It computes on the CPU and refuses what a GPU refuses. Its tensors say that they are on the meta
device. Only operations of the device reach their numbers, which a copy to the CPU brings back.
Mixing devices is a RuntimeError, as on a GPU.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from skip_exp import pipeline
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut, shapes_of, site_sizes
from skip_exp.models.trained import train_only
from skip_exp.phases import fit, job
from skip_exp.phases.prepare import prepare
from skip_exp.skill.export.huggingface import to_huggingface
from tests.attribution.test_every_method import METHODS, method
from tests.helpers.saved import save_backbone
from tests.helpers.tiny import tiny_batch, tiny_model
from tests.helpers.toy import rarely, save_toy, toy_job

DEVICE = torch.device("meta")
COPIES = ("_to_copy", "copy_", "to")
INDEXED = ("index", "index_put_", "index_put", "_index_put_impl_")  # by indices of the CPU, too


class Far(Tensor):
    """A tensor of the device.

    Attributes:
        here: its numbers.
    """

    here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: Tensor) -> "Far":
        with torch.inference_mode(here.is_inference()):  # a view is what its base is
            found: Far = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                here.size(),
                strides=here.stride(),
                storage_offset=here.storage_offset(),
                dtype=here.dtype,
                device=DEVICE,
                requires_grad=here.requires_grad,
            )
        found.here = here
        return found

    def __repr__(self) -> str:
        return f"Far({self.here})"

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(function, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(function, args, kwargs or {})


class _Made(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        to = kwargs.get("device")
        if (
            function in (torch.tensor, torch.as_tensor)
            and to is not None
            and torch.device(to) == DEVICE
        ):
            return function(*args, **kwargs | {"device": "cpu"}).to(DEVICE)  # else without numbers
        if function is Tensor.__getitem__:  # the same, of lists of indices
            parts = args[1] if isinstance(args[1], tuple) else (args[1],)
            made = (torch.tensor(x).long() if isinstance(x, list) else x for x in parts)
            return function(args[0], tuple(made))
        if function is torch.where:  # the same
            return function(*(x if isinstance(x, Tensor) else torch.tensor(x) for x in args))
        return function(*args, **kwargs)


@contextmanager
def elsewhere() -> Iterator[None]:
    """Within the block the device is there: tensors may be made on it and moved to it."""
    # A parameter stays the same object when it moves, as from the CPU to a GPU: ties hold.
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with _Dispatch(), _Made():
            yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def compute(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on the device if one of its tensors or its result is there."""
    name = function.overloadpacket.__name__
    leaves = tree_leaves((args, kwargs))
    inside = [x for x in leaves if isinstance(x, Tensor)]
    devices = [x for x in leaves if isinstance(x, torch.device)]
    is_far = devices[0] == DEVICE if devices else any(isinstance(x, Far) for x in inside)
    if any(x.is_meta and not isinstance(x, Far) for x in inside):
        raise RuntimeError(f"{name}: a tensor was made without numbers: see _Made")
    if is_far and name not in COPIES:
        operands = (args[0], *args[2:]) if name in INDEXED else (args, kwargs)
        generators = [x for x in leaves if isinstance(x, torch.Generator)]
        if generators or any(_is_near(x) for x in tree_leaves(operands)):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
    found = function(*tree_map(_here, args), **tree_map(_here, kwargs))
    if not is_far or found is None:
        return found
    if name.endswith("_") and not name.endswith("__"):  # in place
        return args[0]
    return tree_map(lambda x: Far(x) if isinstance(x, Tensor) else x, found)


def _is_near(x: Any) -> bool:
    """Whether ``x`` is a tensor of the CPU; one number of it is no operand."""
    return isinstance(x, Tensor) and not isinstance(x, Far) and x.dim() > 0


def _here(x: Any) -> Any:
    if isinstance(x, torch.device):
        return torch.device("cpu")
    return x.here if isinstance(x, Far) else x


MODELS = [  # every family, prompt and readout
    *(("xlm-roberta", "input", "mlm"), ("modernbert", "prefix", "head")),
    *rarely(("roberta", "input", "mlm"), ("bert", "prefix", "head")),
    *rarely(("t5", "prefix", "seq2seq"), ("t5_gated", "input", "head")),
]
OPTIONS = ("softened", "paper")  # of a method that is there


@pytest.fixture
def there() -> Iterator[None]:
    with elsewhere():
        yield


MIXTURES: list[Callable[[Tensor], Any]] = [
    lambda x: x + torch.ones(2),
    lambda x: torch.ones(2)[x.long()],
    lambda x: x.masked_fill(torch.tensor([True, False]), 0),
    lambda x: torch.rand(2, device=x.device, generator=torch.Generator()),
    lambda x: x.index_put_((torch.tensor([0, 1]),), torch.ones(2)),
]


@pytest.mark.parametrize("mix", MIXTURES)
def test_mixtures_are_refused(mix: Any, there: None) -> None:
    x = torch.ones(2).to(DEVICE)
    assert (x + x * 2)[torch.tensor([0])].cpu().tolist() == [3.0] and x.sum().item() == 2
    with pytest.raises(RuntimeError, match="same device"):
        mix(x)


def answers(model: SoftPromptModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every method's scores; logits and gradients of the cut model, logits of the export."""
    found = {}
    for name in {*METHODS} - {*OPTIONS}:
        found |= {f"{name} {site}": x for site, x in method(name)(model, [batch]).items()}
    sizes = site_sizes(shapes_of(model))
    smaller = cut(model, {site: torch.arange(size - 1) for site, size in sizes.items()})
    train_only(smaller, "lora", 2, 1)
    inputs = {name: x for name, x in batch.items() if name != "labels"}
    exported = to_huggingface(model.on("cpu"), ["a", "b", "c"]).to(batch["labels"].device)
    logits = smaller(**inputs)
    F.cross_entropy(logits, batch["labels"]).backward()
    named = smaller.named_parameters()
    found |= {"logits": logits, "export": exported(**inputs).logits}
    return found | {name: p.grad for name, p in named if p.grad is not None}


@pytest.mark.parametrize("case", MODELS)
def test_scores_surgery_and_gradients(case: tuple[str, str, str], there: None) -> None:
    model, batch = tiny_model(*case), tiny_batch(case[0])
    here = answers(model, batch)
    moved = {name: x.to(DEVICE) for name, x in batch.items()}
    found = answers(copy.deepcopy(model).to(DEVICE), moved)
    assert found.keys() == here.keys()
    for name, each in here.items():
        torch.testing.assert_close(found[name].detach().cpu(), each.detach(), msg=name)


JOBS: list[tuple[str, str, list[str]]] = [
    ("bert", "head", []),
    ("roberta", "mlm", ["prompt=input", "tune.train=full"]),
    ("modernbert", "head", ["retune.copies=1"]),
    ("t5", "seq2seq", ["attribution=taylor"]),
    ("t5_gated", "head", ["attribution=fisher"]),
]


@pytest.mark.parametrize("case", [JOBS[0], *rarely(*JOBS[1:])])
def test_a_whole_job(
    case: tuple[str, str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, readout, more = case
    toy = save_toy(tmp_path)
    save_backbone(tmp_path / "backbone", kind)
    toy += [f"backbone.family={kind.split('_')[0]}", f"backbone.readout={readout}"]
    toy += ["task.words=[bad,good]", "data.train_rows=40"]
    more = [*more, "tune.dropout=false", "cache.dir=null"]
    here = pipeline.run(toy_job(toy, tmp_path, "here", *more))
    monkeypatch.setattr(SingleDeviceStrategy, "root_device", property(lambda _: DEVICE))
    for module in (fit.trainers, job):
        monkeypatch.setattr(module, "root_device", lambda _: DEVICE)
    monkeypatch.setattr(CPUAccelerator, "setup_device", lambda *_: None)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # the device has none
    cfg = toy_job(toy, tmp_path, "there", *more)
    with elsewhere():
        there = pipeline.run(cfg)
    loaded = prepare(cfg).backbone.model  # further jobs start from it
    assert {each.device.type for each in loaded.parameters()} == {"cpu"}
    for state in ("dense", "pruned", "final"):
        assert there["select"][state] == pytest.approx(here["select"][state], abs=0.1)
    assert there["keep_sizes"].keys() == here["keep_sizes"].keys()
