"""The model that is tuned, attributed, cut and served: a frozen backbone, a prompt, a readout."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel

from skip_exp.models import lora
from skip_exp.models.attention import Attention
from skip_exp.models.families.base import AttentionBlock, Block, Family, key_mask
from skip_exp.models.prompts.base import SoftPrompt
from skip_exp.models.readouts.base import Encoded, Readout
from skip_exp.models.sites import Shape, shapes

State = dict[str, Tensor]  # what is a skill's own, by parameter name


class SoftPromptModel(nn.Module):
    """P(y | [prompt; x]) of a frozen backbone; only ``prompt`` and ``readout`` require gradients.

    Args:
        backbone: a Hugging Face model whose attention was swapped (``Family.prepare``).
        family: how to reach into it.
        prompt: soft prompt.
        readout: turns hidden states into class logits.
    """

    def __init__(
        self, backbone: PreTrainedModel, family: Family, prompt: SoftPrompt, readout: Readout
    ) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.family = family
        self.prompt = prompt
        self.readout = readout

    def blocks(self) -> list[Block]:
        """The attention and FFN sublayers in use, in order of execution."""
        return self.family.blocks(self.backbone)

    def shapes(self) -> list[Shape]:
        """Their sizes: which neurons there are, and what they cost."""
        return shapes(self.blocks())

    def attention_blocks(self) -> dict[str, AttentionBlock]:
        return {b.name: b for b in self.blocks() if isinstance(b, AttentionBlock)}

    def encoder_mask(self, attention_mask: Tensor) -> Tensor:
        """0/1 mask [B, T] of the encoder's positions: virtual, added and real tokens."""
        added = self.prompt.input_length + self.readout.added
        return torch.cat(
            [attention_mask.new_ones(attention_mask.shape[0], added), attention_mask], 1
        )

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Token ids and 0/1 mask [B, T], right-padded -> class logits [B, labels] in fp32."""
        self.prompt.install(self.attention_blocks())
        return self.logits(input_ids, attention_mask, token_type_ids)

    def logits(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """:meth:`forward` once the prompt is installed."""
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
        return self.readout(self.backbone, self.family, encoded).float()

    def copy(self) -> "SoftPromptModel":
        """A model of its own modules that shares the frozen weights; prompt and readout copied."""
        shared: dict[int, Any] = {id(p): p for p in self.backbone.parameters()}
        shared |= {id(b): b for b in self.backbone.buffers()}
        return copy.deepcopy(self, shared)

    def on(self, device: torch.device | str) -> "SoftPromptModel":
        """This model where all of it is on ``device``, or else a copy there.

        ``to`` would move the weights of every model that shares them, the loaded backbone's, too.
        """
        place = torch.device(device)
        if all(t.device.type == place.type for t in (*self.parameters(), *self.buffers())):
            return self
        return copy.deepcopy(self).to(place)

    def train_only(self, what: str, rank: int = 0, seed: int = 0) -> None:
        """Choose what requires gradients: one of ``config.schema.TRAIN``.

        ``bias``: the vectors of the layers in use, too (biases and norms; BitFit, Zaken et al.
        2022); ``lora``: these and the factors of low-rank updates of every linear of the blocks;
        ``full``: every weight of the backbone. They become this model's own, so that others that
        share its backbone's weights keep theirs: call it on a :meth:`copy`.

        Args:
            rank, seed: of the factors that ``lora`` starts where there are none; 0: it adds none.
        """
        self.readout.requires_grad_(what != "prompt")
        if what not in ("bias", "lora", "full"):
            return
        if what == "lora" and rank:
            linears = [linear for block in self.blocks() for linear in block.linears().values()]
            lora.add(self.backbone, linears, rank, seed)
        copies: dict[nn.Parameter, nn.Parameter] = {}  # tied weights stay tied
        modules = list(self.backbone.modules()) if what == "full" else self.layer_modules()
        for module in modules:
            small = lora.FACTORS if isinstance(module, lora.LowRankLinear) else ()
            for name, parameter in list(module.named_parameters(recurse=False)):
                is_own = what == "full" or parameter.dim() == 1 or name in small
                if parameter.numel() and is_own:
                    if parameter not in copies:
                        copies[parameter] = nn.Parameter(parameter.detach().clone())
                    setattr(module, name, copies[parameter])

    def skill_parameters(self) -> dict[str, nn.Parameter]:
        """What is this skill's own: prompt, readout, and trained vectors and factors."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad or not name.startswith("backbone.")
        }

    def layer_modules(self) -> list[nn.Module]:
        """Every module inside the transformer layers in use, embeddings and heads left out."""
        stacks = self.family.layers(self.backbone)
        return [module for stack in stacks for module in stack.modules()]

    def set_attention(self, implementation: str) -> None:
        """Choose ``sdpa`` or ``eager`` for every attention module."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.implementation = implementation


def trainable_state(model: SoftPromptModel) -> State:
    """A copy of what is the skill's own (prompt, readout, biases, factors), on the CPU."""
    return {name: p.detach().cpu().clone() for name, p in model.skill_parameters().items()}


def load_trainable(model: SoftPromptModel, state: State) -> None:
    """Put a :func:`trainable_state` back in place; low-rank updates are merged."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in state.items():
            parameters[name].copy_(tensor)
    lora.merge(model.backbone)
