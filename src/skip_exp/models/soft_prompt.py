"""The model that is tuned, attributed, pruned and served: backbone, prompt, readout."""

import copy

import torch
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel

from skip_exp.models import lora
from skip_exp.models.attention import Attention
from skip_exp.models.families.base import AttentionBlock, Block, Family, key_mask, weights_of
from skip_exp.models.prompts import SoftPrompt
from skip_exp.models.readouts import Encoded, Readout
from skip_exp.models.sites import Shape

State = dict[str, Tensor]  # a skill's own parameters, by name


class SoftPromptModel(nn.Module):
    """P(y | [prompt; x]) of a frozen backbone; at first only prompt and readout are trainable.

    Example:
        >>> b = load_backbone("minilm", "embedded:minilm", "bert", "head")
        >>> prompt = PrefixPrompt.build(b.model, b.family, 16, torch.arange(2000, 2016))
        >>> model = SoftPromptModel(b.model, b.family, prompt, HeadReadout(384, labels=2)).eval()
        >>> model(**b.tokenizer(["a warm film"], return_tensors="pt")).shape
        torch.Size([1, 2])

    Args:
        backbone: a Hugging Face model after ``Family.prepare``.
        family: how to reach into it.
        prompt: soft prompt.
        readout: turns hidden states into class logits.

    Attributes:
        temperature: divides the logits; that of a skill makes its probabilities calibrated.
    """

    temperature: float = 1.0

    def __init__(
        self, backbone: PreTrainedModel, family: Family, prompt: SoftPrompt, readout: Readout
    ) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.family = family
        self.prompt = prompt
        self.readout = readout

    def blocks(self) -> list[Block]:
        """List the attention and FFN sublayers in use, in order of execution."""
        return self.family.blocks(self.backbone)

    def attention_blocks(self) -> dict[str, AttentionBlock]:
        """The attention sublayers among :meth:`blocks`, by name."""
        return {b.name: b for b in self.blocks() if isinstance(b, AttentionBlock)}

    def shapes(self) -> list[Shape]:
        """Sizes of the sublayers: their neurons and what these cost."""
        return [block.shape() for block in self.blocks()]

    def block_parameters(self) -> int:
        """The parameters that pruning counts: of attention and feed-forward weights."""
        return sum(shape.parameters for shape in self.shapes())

    def encoder_mask(self, attention_mask: Tensor) -> Tensor:
        """Extend the text's 0/1 mask [B, T] by ones for virtual and added tokens."""
        added = self.prompt.input_length + self.readout.added
        ones = attention_mask.new_ones(attention_mask.shape[0], added)
        return torch.cat([ones, attention_mask], 1)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Compute class logits [B, labels] in fp32 from right-padded ids and 0/1 mask [B, T]."""
        self.prompt.install(self.attention_blocks())
        return self.logits(input_ids, attention_mask, token_type_ids)

    def logits(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Compute what :meth:`forward` does, with a prompt that is already installed."""
        ids = self.readout.text_ids(input_ids)
        embeds = self.backbone.get_input_embeddings()(ids)
        mask = self.encoder_mask(attention_mask)
        embeds, virtual = self.prompt.embed(embeds), self.prompt.input_length
        if token_type_ids is not None:
            extra = token_type_ids.new_zeros(ids.shape[0], mask.shape[1] - token_type_ids.shape[1])
            token_type_ids = torch.cat([extra, token_type_ids], dim=1)
        prefix = self.prompt.length - virtual
        hidden = self.family.encode(self.backbone, embeds, key_mask(mask, prefix), token_type_ids)
        encoded = Encoded(hidden, mask, virtual, ids)
        return self.readout(self.backbone, self.family, encoded).float() / self.temperature

    def copy(self) -> "SoftPromptModel":
        """Copy modules, prompt and readout, and share the backbone's weights."""
        return copy.deepcopy(self, weights_of(self.backbone))

    def on(self, device: torch.device | str) -> "SoftPromptModel":
        """Return this model if it is on ``device``, otherwise a copy there.

        ``to`` would also move the weights of every other model that shares them.
        """
        place = torch.device(device)
        if all(t.device.type == place.type for t in (*self.parameters(), *self.buffers())):
            return self
        return copy.deepcopy(self).to(place)

    def train_only(self, what: str, rank: int = 0, seed: int = 0) -> None:
        """Choose which parameters require gradients.

        Trained backbone parameters become this model's own. Call it on a :meth:`copy`, so that
        models with the same backbone keep theirs.

        Args:
            what: ``none``; ``prompt``; ``prompt_readout``; ``bias``, these and all vectors of the
                layers in use (biases and norms; BitFit, Zaken et al. 2022); ``lora``, these and
                low-rank updates of every linear of the blocks; ``layers``, prompt, readout and
                every weight of the layers in use, but not the embeddings; ``full``, every weight.
            rank, seed: of new ``lora`` factors; rank 0 adds none.
        """
        self.prompt.requires_grad_(what != "none")
        self.readout.requires_grad_(what not in ("none", "prompt"))
        if what not in ("bias", "lora", "layers", "full"):
            return
        if what == "lora" and rank:
            linears = [linear for block in self.blocks() for linear in block.linears()]
            lora.add(self.backbone, linears, rank, seed)
        copies: dict[nn.Parameter, nn.Parameter] = {}  # tied weights stay tied
        stacks = [self.backbone] if what == "full" else self.family.layers(self.backbone)
        for module in [module for stack in stacks for module in stack.modules()]:
            small = lora.FACTORS if isinstance(module, lora.LowRankLinear) else ()
            for name, parameter in list(module.named_parameters(recurse=False)):
                is_own = what in ("layers", "full") or parameter.dim() == 1 or name in small
                if parameter.numel() and is_own:
                    if parameter not in copies:
                        copies[parameter] = nn.Parameter(parameter.detach().clone())
                    setattr(module, name, copies[parameter])

    def skill_parameters(self) -> dict[str, nn.Parameter]:
        """This skill's own parameters: prompt, readout, and trained vectors and factors."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad or not name.startswith("backbone.")
        }

    def set_attention(self, implementation: str) -> None:
        """Choose ``sdpa`` or ``eager`` for every attention module."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.implementation = implementation


def trainable_state(model: SoftPromptModel) -> State:
    """Copy a skill's own parameters (prompt, readout, biases, factors) to the CPU."""
    return {name: p.detach().cpu().clone() for name, p in model.skill_parameters().items()}


def load_trainable(model: SoftPromptModel, state: State) -> None:
    """Load a :func:`trainable_state`, and merge low-rank updates."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in state.items():
            parameters[name].copy_(tensor)
    lora.merge(model.backbone)
