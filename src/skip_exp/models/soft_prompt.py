"""The model that is tuned, attributed, pruned and served: backbone, prompt, readout."""

import copy
from itertools import chain

import torch
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel

from .attention import Attention
from .family import Block, Family, key_mask, weights_of
from .prompts import SoftPrompt
from .readouts import Encoded, Readout


class SoftPromptModel(nn.Module):
    """P(y | [prompt; x]) of a frozen backbone; at first only prompt and readout are trainable.

    Example:
        >>> b = load_backbone("minilm", "embedded:minilm", "bert", "head")
        >>> prompt = new_prompt("prefix", b.model, b.family, torch.arange(2000, 2016))
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

    def attentions(self) -> dict[str, Attention]:
        """The attention modules among :meth:`blocks`, by name."""
        return {b.name: b.attention for b in self.blocks() if b.attention is not None}

    def encoder_mask(self, attention_mask: Tensor) -> Tensor:
        """Extend the text's 0/1 mask [B, T] by ones for virtual and added tokens."""
        added = self.prompt.input_length + self.readout.added
        ones = attention_mask.new_ones(attention_mask.shape[0], added)
        return torch.cat([ones, attention_mask], 1)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Compute class logits [B, labels] in fp32 from right-padded ids and 0/1 mask [B, T]."""
        self.prompt.install(self.attentions())
        return self.logits(input_ids, attention_mask, token_type_ids)

    def logits(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Compute what :meth:`forward` does, with a prompt that is already installed."""
        ids = self.readout.text_ids(input_ids)
        embeds = self.prompt.embed(self.backbone.get_input_embeddings()(ids))
        mask = self.encoder_mask(attention_mask)
        virtual = self.prompt.input_length
        if token_type_ids is not None:
            extra = token_type_ids.new_zeros(ids.shape[0], mask.shape[1] - token_type_ids.shape[1])
            token_type_ids = torch.cat([extra, token_type_ids], dim=1)
        prefix = self.prompt.length - virtual
        hidden = self.family.encode(self.backbone, embeds, key_mask(mask, prefix), token_type_ids)
        encoded = Encoded(hidden, mask, virtual, ids)
        return self.readout.logits(self.backbone, self.family, encoded).float() / self.temperature

    def copy(self) -> "SoftPromptModel":
        """Copy modules, prompt and readout, and share the backbone's weights."""
        return copy.deepcopy(self, weights_of(self.backbone))

    def on(self, device: torch.device | str) -> "SoftPromptModel":
        """Return this model if it is on ``device``, otherwise a copy there.

        ``to`` would also move the weights of every other model that shares them.
        """
        target = torch.device(device)
        kinds = {tensor.device.type for tensor in chain(self.parameters(), self.buffers())}
        return self if kinds <= {target.type} else copy.deepcopy(self).to(target)

    def set_attention(self, implementation: str) -> None:
        """Choose ``sdpa`` or ``eager`` for every attention module."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.implementation = implementation
