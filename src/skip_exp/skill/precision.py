"""Half-size weights for prediction: backbone and prompt in bf16, the readout in fp32."""

from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from skip_exp.errors import SkipError
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.utils.machine import multiplies_bf16

SERVING_PRECISIONS = ("32-true", "bf16", "auto")

# A weight that several skills share stays one weight; it is freed with its original.
_cast: WeakIdKeyDictionary = WeakIdKeyDictionary()


def wants_bf16(precision: str) -> bool:
    """Whether ``precision`` means bf16 here; ``auto`` does where that is faster.

    Raises:
        SkipError: it is none of PRECISIONS.
    """
    if precision not in SERVING_PRECISIONS:
        raise SkipError(f"precision={precision}: must be one of {', '.join(SERVING_PRECISIONS)}")
    return precision == "bf16" or (precision == "auto" and multiplies_bf16())


def to_bf16(model: SoftPromptModel) -> None:
    """Convert backbone and prompt of ``model`` to bf16, in place.

    Parameters are replaced, never written to: other models that share the originals keep them.
    """
    for part in (model.backbone, model.prompt):
        for module in part.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter not in _cast:
                    half = parameter.detach().bfloat16()
                    _cast[parameter] = nn.Parameter(half, requires_grad=False)
                setattr(module, name, _cast[parameter])
