"""How large the inputs of a model's linear layers become: 8-bit scales follow from it."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from skip_exp.data.batches import Row, pad
from skip_exp.models.soft_prompt import SoftPromptModel

TEXTS = 512  # that are measured; with 256 answers drift half as far again

Ranges = dict[str, Tensor]  # a linear layer of the backbone, by name -> [in]


@torch.inference_mode()
def measure_ranges(model: SoftPromptModel, rows: Sequence[Row], pad_id: int) -> Ranges:
    """The largest absolute value of every input channel of each linear layer of the backbone.

    Example:
        >>> measure_ranges(model, rows, pad_id=0)["encoder.layer.0.output.dense"].shape
        torch.Size([461])

    Args:
        model: in eval mode.
        rows: tokenized; at most ``TEXTS`` of them, evenly spread, are answered one by one, because
            padding would count.
    """
    # A layer that was cut away multiplies nothing.
    modules = model.backbone.named_modules()
    linears = {m: name for name, m in modules if isinstance(m, nn.Linear) and m.weight.numel()}
    device = next(model.parameters()).device
    ranges: Ranges = {}

    def widen(linear: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        name = linears[linear]
        largest = inputs[0].float().abs().flatten(0, -2).amax(0).cpu()
        ranges[name] = torch.maximum(ranges[name], largest) if name in ranges else largest

    with ExitStack() as hooks:
        for linear in linears:
            hooks.enter_context(linear.register_forward_pre_hook(widen))
        step = -(-len(rows) // TEXTS)  # rounded up
        for row in rows[::step]:
            batch = pad([row], pad_id)
            model(**{name: torch.from_numpy(x).to(device) for name, x in batch.items()})
    return ranges
