"""A device with numbers, on any machine: it computes on the CPU and refuses what a GPU refuses.

Its tensors say that they are on the meta device. Only operations of the device reach their numbers,
which a copy to the CPU brings back. Mixing devices is a RuntimeError, as on a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

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
