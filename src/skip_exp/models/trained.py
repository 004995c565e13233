"""What of a model is trained, and what a skill stores of it."""

import torch
from torch import Tensor, nn

from .lora import FACTORS, LowRankLinear, add, merge
from .soft_prompt import SoftPromptModel

State = dict[str, Tensor]  # a skill's own parameters, by name


def train_only(model: SoftPromptModel, what: str, rank: int = 0, seed: int = 0) -> None:
    """Choose which parameters require gradients.

    Trained backbone parameters become this model's own. Call it on a copy, so that
    models with the same backbone keep theirs.

    Args:
        what: ``none``; ``prompt``; ``prompt_readout``; ``bias``, these and all vectors of the
            layers in use (biases and norms; BitFit, Zaken et al. 2022); ``lora``, these and
            low-rank updates of every linear of the blocks; ``layers``, prompt, readout and
            every weight of the layers in use, but not the embeddings; ``full``, every weight.
        rank, seed: of new ``lora`` factors; rank 0 adds none.
    """
    model.prompt.requires_grad_(what != "none")
    model.readout.requires_grad_(what not in ("none", "prompt"))
    if what not in ("bias", "lora", "layers", "full"):
        return
    if what == "lora" and rank:
        linears = [linear for block in model.blocks() for linear in block.linears()]
        add(model.backbone, linears, rank, seed)
    copies: dict[nn.Parameter, nn.Parameter] = {}  # tied weights stay tied
    stacks = [model.backbone] if what == "full" else model.family.layers(model.backbone)
    for module in [module for stack in stacks for module in stack.modules()]:
        small = FACTORS if isinstance(module, LowRankLinear) else ()
        for name, parameter in list(module.named_parameters(recurse=False)):
            is_own = what in ("layers", "full") or parameter.dim() == 1 or name in small
            if parameter.numel() and is_own:
                if parameter not in copies:
                    copies[parameter] = nn.Parameter(parameter.detach().clone())
                setattr(module, name, copies[parameter])


def skill_parameters(model: SoftPromptModel) -> dict[str, nn.Parameter]:
    """A skill's own parameters: prompt, readout, and trained vectors and factors."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or not name.startswith("backbone.")
    }


def trainable_state(model: SoftPromptModel) -> State:
    """Copy a skill's own parameters (prompt, readout, biases, factors) to the CPU."""
    return {name: p.detach().cpu().clone() for name, p in skill_parameters(model).items()}


def load_trainable(model: SoftPromptModel, state: State) -> None:
    """Load a :func:`trainable_state`, and merge low-rank updates."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in state.items():
            parameters[name].copy_(tensor)
    merge(model.backbone)
