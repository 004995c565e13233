"""The floating-point operations of a forward pass, and the batch it is measured on."""

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .soft_prompt import SoftPromptModel


def random_batch(model: SoftPromptModel, batch: int, seq_len: int) -> dict[str, Tensor]:
    """Draw a full batch [batch, seq_len] of random token ids on the model's device."""
    device = next(model.parameters()).device
    vocabulary = model.backbone.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (batch, seq_len), generator=generator).to(device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def flops(model: SoftPromptModel, seq_len: int) -> int:
    """Count the floating-point operations of one text of ``seq_len`` tokens."""
    eager = model.on("cpu").copy().eval()  # parts of a job's models may be on another device
    eager.set_attention("eager")  # the CPU's fused attention kernel is not counted
    # In inference mode the counter cannot follow parameters into a module, e.g. a prompt's layers.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        eager(**random_batch(eager, 1, seq_len))
    return counter.get_total_flops()
