"""What of a model is trained, and what a skill stores of it.

Linear layers may get an update, which is trained apart and merged to serve. Outside a fit
``weight`` is the merged one, so attribution and timing see plain linear layers. During a fit the
frozen weight W and the update are applied side by side, so no gradient has the size of W.

- A low-rank update (LoRA, Hu et al. 2021): W + alpha / rank * B @ A with alpha = rank, so the scale
  is 1. Factors have PEFT's names, ``lora_A`` [rank, in] and ``lora_B`` [out, rank].
- Gates ((IA)^3, Liu et al. 2022): W * diag(g), a factor g on each input of an output projection,
  1 at first: on each FFN unit, and on each channel of each head. A cut removes a neuron's gates.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .family import linear_of, replace
from .soft_prompt import SoftPromptModel

State = dict[str, Tensor]  # a skill's own parameters, by name
FACTORS = ("lora_A", "lora_B")


class UpdatedLinear(nn.Linear):
    """``linear`` with an update of its weight.

    Attributes:
        base: the frozen weight without the update; None while unmerged, when ``weight`` is it.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight = linear.weight
        self.bias = linear.bias
        self.base: Tensor | None = nn.Buffer(self.weight.detach(), persistent=False)

    def update(self, base: Tensor) -> Tensor:
        """The weight ``base`` with the current update."""
        raise NotImplementedError

    def unmerge(self) -> None:
        """Take the update out of the weight, exactly."""
        if self.base is not None:
            self.weight = nn.Parameter(self.base, requires_grad=False)
            self.base = None

    def merge(self) -> None:
        """Put the current update into a weight that this layer owns."""
        base = self.weight.detach() if self.base is None else self.base
        self.weight = nn.Parameter(self.update(base), requires_grad=False)
        self.base = base

    def plain(self) -> nn.Linear:
        """A plain linear layer with the current weight."""
        self.merge()
        return linear_of(self.weight, self.bias).train(self.training)


class LowRankLinear(UpdatedLinear):
    """A low-rank update, which starts at zero.

    Attributes:
        lora_A, lora_B: trained factors [rank, in] and [out, rank].
    """

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__(linear)
        reach = self.in_features**-0.5  # as PyTorch initialises a linear layer
        a = torch.empty(rank, self.in_features).uniform_(-reach, reach, generator=generator)
        self.lora_B = nn.Parameter(self.weight.new_zeros(self.out_features, rank))
        self.lora_A = nn.Parameter(a.to(self.weight))

    def forward(self, input: Tensor) -> Tensor:
        out = super().forward(input)
        if self.base is not None:
            return out
        return out + F.linear(F.linear(input, self.lora_A), self.lora_B)

    def update(self, base: Tensor) -> Tensor:
        return base + self.lora_B.detach() @ self.lora_A.detach()


class GatedLinear(UpdatedLinear):
    """A gate on every input.

    Example:
        >>> layer = GatedLinear(nn.Linear(2, 2, bias=False))
        >>> layer.gate.data = torch.tensor([1.0, 0.5])
        >>> layer.plain().weight  # its second column is half of what it was

    Attributes:
        gate: trained factors [in].
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self.gate = nn.Parameter(self.weight.new_ones(self.in_features))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input * self.gate if self.base is None else input)

    def update(self, base: Tensor) -> Tensor:
        return base * self.gate.detach()


def list_updates(module: nn.Module) -> list[UpdatedLinear]:
    """The layers of ``module`` that have an update."""
    return [layer for layer in module.modules() if isinstance(layer, UpdatedLinear)]


def list_factors(module: nn.Module) -> list[nn.Parameter]:
    """The factors of every low-rank update, B before A."""
    factors = []
    for layer in list_updates(module):
        if isinstance(layer, LowRankLinear):
            factors += [layer.lora_B, layer.lora_A]
    return factors


def list_gates(module: nn.Module) -> list[nn.Parameter]:
    """The gates of every output projection that has some."""
    return [layer.gate for layer in list_updates(module) if isinstance(layer, GatedLinear)]


def merge_updates(module: nn.Module) -> None:
    """Merge every update."""
    for layer in list_updates(module):
        layer.merge()


def unmerge_updates(module: nn.Module) -> None:
    """Take every update out of its weight."""
    for layer in list_updates(module):
        layer.unmerge()


def fold_updates(module: nn.Module) -> None:
    """Replace every layer with an update by a plain one with the merged weight."""
    replace(module, {layer: layer.plain() for layer in list_updates(module)})


def train_only(model: SoftPromptModel, train: str, rank: int = 0, seed: int = 0) -> None:
    """Choose which parameters require gradients.

    Trained backbone parameters become this model's own. Call it on a copy, so that
    models with the same backbone keep theirs.

    Args:
        train: ``none``; ``prompt``; ``prompt_readout``; ``bias``, these and all vectors of the
            layers in use (biases and norms; BitFit, Zaken et al. 2022); ``gates``, these and gates
            on the inputs of the blocks' output projections; ``lora``, as ``bias`` and low-rank
            updates of every linear of the blocks; ``layers``, prompt, readout and every weight of
            the layers in use, but not the embeddings; ``full``, every weight.
        rank, seed: of new ``lora`` factors; rank 0 adds none, nor do layers that have some.
    """
    model.prompt.requires_grad_(train != "none")
    model.readout.requires_grad_(train not in ("none", "prompt"))
    if train not in ("bias", "gates", "lora", "layers", "full"):
        return
    # Updates first: their gates and factors are trained like the vectors of the layers.
    updated: dict[nn.Module, nn.Module] = {}
    generator = torch.Generator().manual_seed(seed)
    for block in model.blocks():
        if train == "gates" and _lacks(block.output, GatedLinear):
            updated[block.output] = GatedLinear(block.output)
        if train == "lora" and rank:
            for linear in block.linears():
                if _lacks(linear, LowRankLinear):
                    updated[linear] = LowRankLinear(linear, rank, generator)
    replace(model.backbone, updated)
    copies: dict[nn.Parameter, nn.Parameter] = {}  # tied weights stay tied
    stacks = [model.backbone] if train == "full" else model.family.layers(model.backbone)
    for stack in stacks:
        for module in stack.modules():
            _copy_trained(module, train, copies)


def _lacks(linear: nn.Linear, update: type[UpdatedLinear]) -> bool:
    """Whether ``linear`` has weights, but no such update."""
    return linear.weight.numel() > 0 and not isinstance(linear, update)


def _copy_trained(module: nn.Module, train: str, copies: dict[nn.Parameter, nn.Parameter]) -> None:
    """Replace those parameters of ``module`` itself that are trained by copies."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        is_trained = train in ("layers", "full") or parameter.dim() == 1 or name in FACTORS
        if parameter.numel() and is_trained:
            if parameter not in copies:
                copies[parameter] = nn.Parameter(parameter.detach().clone())
            setattr(module, name, copies[parameter])


def skill_parameters(model: SoftPromptModel) -> dict[str, nn.Parameter]:
    """A skill's own parameters: prompt, readout, and trained vectors and factors."""
    named = model.named_parameters()
    return {name: p for name, p in named if p.requires_grad or not name.startswith("backbone.")}


def trainable_state(model: SoftPromptModel) -> State:
    """Copy a skill's own parameters (prompt, readout, biases, gates, factors) to the CPU."""
    return {name: p.detach().cpu().clone() for name, p in skill_parameters(model).items()}


def load_trainable(model: SoftPromptModel, state: State) -> None:
    """Load a :func:`trainable_state`, and merge updates."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in state.items():
            parameters[name].copy_(tensor)
    merge_updates(model.backbone)
