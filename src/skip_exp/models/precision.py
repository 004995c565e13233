"""Weights in half the bytes, for answering: bf16, the readout in fp32."""

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from skip_exp.errors import SkipError
from skip_exp.models.soft_prompt import SoftPromptModel

PRECISIONS = ("32-true", "bf16", "auto")

# A weight that several skills share stays one weight; it goes when its original does.
_cast: WeakIdKeyDictionary = WeakIdKeyDictionary()


def check_precision(precision: str) -> None:
    """Raises SkipError."""
    if precision not in PRECISIONS:
        raise SkipError(f"precision={precision}: must be one of {', '.join(PRECISIONS)}")


def wants_bf16(precision: str) -> bool:
    """Whether ``precision`` (one of PRECISIONS) means bf16 on this processor.

    ``auto``: where it multiplies bf16 (AVX512-BF16 or AMX).
    """
    return precision == "bf16" or (precision == "auto" and multiplies_bf16())


def multiplies_bf16() -> bool:
    """Whether this processor does: elsewhere bf16 is emulated, and slower than fp32."""
    native = torch.cpu.get_capabilities()
    return bool(native.get("avx512_bf16") or native.get("amx_bf16"))


def to_bf16(model: SoftPromptModel) -> None:
    """Give ``model`` a bf16 backbone and prompt of its own, in place; the readout stays fp32.

    Parameters are replaced, never written to: other models that share the originals keep them.
    """
    for part in (model.backbone, model.prompt):
        for module in part.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, _in_bf16(parameter))


def _in_bf16(parameter: Tensor) -> nn.Parameter:
    if parameter not in _cast:
        _cast[parameter] = nn.Parameter(parameter.detach().bfloat16(), requires_grad=False)
    return _cast[parameter]
