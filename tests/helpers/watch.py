"""What a GPU would wait for, or refuse, found without one: models on the meta device."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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
