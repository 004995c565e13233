"""What a forward pass of a model costs, and the batch that it is measured on."""

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from skip_exp.models.soft_prompt import SoftPromptModel


def random_batch(model: SoftPromptModel, batch: int, seq_len: int) -> dict[str, Tensor]:
    """A full batch [batch, seq_len] of random tokens, nothing padded, on the model's device."""
    device = next(model.parameters()).device
    vocabulary = model.backbone.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (batch, seq_len), generator=generator).to(device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def flops(model: SoftPromptModel, seq_len: int) -> int:
    """Floating-point operations of one text of ``seq_len`` tokens, attention included."""
    eager = model.on("cpu").copy().eval()  # parts of a job's models may be elsewhere
    eager.set_attention("eager")  # the fused attention kernel of the CPU is not counted
    # The counter cannot follow a parameter into a module (as a prompt with layers has it) in
    # inference mode.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        eager(**random_batch(eager, 1, seq_len))
    return counter.get_total_flops()
