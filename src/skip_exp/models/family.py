"""Descriptions of backbones: where their sublayers and linears are, and how they encode text.

A site is the neurons of one sublayer: the units of an FFN, or the heads of an attention. Relevance,
keep, skill files and results are keyed by site.

Prompts, readouts, attribution, surgery and skills reach into a backbone only through these
descriptions, so one pipeline serves all families.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention

HFModel = Any  # a Hugging Face model: the names of its submodules have no static type
Mask = Tensor | None  # additive; None hides nothing
HIDDEN = -1e4  # additive mask of a padding key: exp() underflows to 0 in fp16, bf16 and fp32


class Sublayer(str):
    """Name of a sublayer, ``<stack>.<layer>.<self|cross|ffn>``, e.g. ``encoder.3.self``."""

    @property
    def stack(self) -> str:
        """``encoder`` or ``decoder``."""
        return self.split(".")[0]

    @property
    def layer(self) -> int:
        """Index of its layer in the stack."""
        return int(self.split(".")[1])

    @property
    def part(self) -> str:
        """``self``, ``cross`` or ``ffn``."""
        return self.split(".")[2]

    @property
    def site(self) -> "Site":
        """The site of its neurons; an FFN's is named like the FFN."""
        return Site(self if self.part == "ffn" else f"{self}.heads")


class Site(str):
    """Name of a site: ``encoder.3.ffn``, ``encoder.3.self.heads``, ``decoder.0.cross.heads``."""

    @property
    def sublayer(self) -> Sublayer:
        """The sublayer that it belongs to."""
        return Sublayer(".".join(self.split(".")[:3]))

    @property
    def kind(self) -> str:
        """``ffn`` or ``heads``."""
        return self.split(".")[-1]

    @property
    def like(self) -> str:
        """Its name without the layer, e.g. ``decoder.cross.heads``.

        Relevances are comparable only within it. Those of an encoder add up over the tokens of a
        text, those of a decoder over one or two. Ranked together, a T5 would lose all
        cross-attention first.
        """
        stack, _, rest = self.split(".", 2)
        return f"{stack}.{rest}"


Relevance = dict[str, Tensor]  # by site: scores [n], fp32 on the CPU
Keep = dict[str, Tensor]  # by site: sorted indices of what stays; absent: keep all


@dataclass(frozen=True)
class Block:
    """One sublayer, e.g. ``encoder.3.self`` or ``encoder.3.ffn``.

    Attributes:
        inner: the linears to its neurons: query, key and value; or ``up``, two where it is gated.
        output: the linear that writes to the hidden state.
        attention: None in a feed-forward sublayer.
    """

    name: Sublayer
    inner: tuple[nn.Linear, ...]
    output: nn.Linear
    attention: Attention | None = None

    def linears(self) -> list[nn.Linear]:
        """The output projection, then the inner linears."""
        return [self.output, *self.inner]


class Family(ABC):
    """How to reach into one kind of transformer.

    To add one: a subclass in its own file; CONTRIBUTING.md lists what else to change or check.

    Attributes:
        name: ``model_type`` of its Hugging Face configuration.
        loaders: what a readout needs (``encoder``, ``mlm``, ``seq2seq`` or ``classifier``) -> the
            library's class for it.
        attention: Hugging Face module -> what replaces it; for an attention module that is a
            subclass of :class:`Attention`.
    """

    name: ClassVar[str]
    loaders: ClassVar[dict[str, Any]]
    attention: ClassVar[dict[type[nn.Module], Any]]

    def loader_options(self, needs: str) -> dict[str, bool]:
        """Arguments of ``loaders[needs].from_pretrained`` and ``from_config``."""
        return {}

    @abstractmethod
    def blocks(self, model: HFModel) -> list[Block]:
        """List the sublayers in use, in order of execution."""

    @abstractmethod
    def layers(self, model: HFModel) -> list[nn.Module]:
        """List the stacks of layers in use, the encoder's first, and their final norms."""

    def keep_first(self, model: HFModel, count: int) -> None:
        """Drop all but the first ``count`` layers of every stack, in place; final norms stay."""
        for stack in self.layers(model):
            if isinstance(stack, nn.ModuleList):
                del stack[count:]
        config = model.config  # an export is rebuilt from it
        for key in ("num_hidden_layers", "num_decoder_layers"):
            if hasattr(config, key):
                setattr(config, key, count)
        if hasattr(config, "layer_types"):
            config.layer_types = config.layer_types[:count]

    @abstractmethod
    def encode(self, model: HFModel, embeds: Tensor, mask: Mask, types: Tensor | None) -> Tensor:
        """Hidden states [B, T, H] of embeddings [B, T, H] and token ``types`` [B, T]."""

    def decode(
        self, model: HFModel, embeds: Tensor, mask: Mask, hidden: Tensor, seen: Mask
    ) -> Tensor:
        """Hidden states [B, T, H] of the decoder, teacher-forced on ``embeds`` [B, T, H].

        ``mask`` hides later positions; ``seen`` hides the padding of the
        encoder's ``hidden`` [B, S, H].
        """
        raise NotImplementedError

    @abstractmethod
    def word_scores(self, model: HFModel, hidden: Tensor) -> Tensor:
        """Vocabulary logits [..., V] of the language model for hidden states [..., H]."""

    @abstractmethod
    def head(self, model: HFModel) -> tuple[nn.Linear, nn.Linear]:
        """Both linear layers of a sequence classifier's head."""

    def between(self, model: HFModel) -> nn.Module:
        """What stands between both layers of :meth:`head`."""
        return nn.Tanh()

    def position_offset(self, config: Any) -> int:
        """Row of the position table that the first token reads."""
        return 0

    def positions(self, model: HFModel) -> int | None:
        """Longest input in tokens; None: unlimited."""
        return model.config.max_position_embeddings - self.position_offset(model.config)

    def prepare(self, model: HFModel) -> HFModel:
        """Freeze ``model`` in eval mode and replace its attention modules, all in place.

        The replacements share the weights.
        """
        replacements: dict[nn.Module, nn.Module] = {}
        for module in model.modules():
            replacement = self.attention.get(type(module))
            if replacement is not None:
                replacements[module] = replacement(module)
        replace(model, replacements)
        return model.eval().requires_grad_(False)


def replace(module: nn.Module, by: Mapping[nn.Module, nn.Module]) -> None:
    """Put other modules in the place of those below ``module``."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if child in by:
                setattr(parent, name, by[child])


def linear_of(weight: Tensor, bias: Tensor | None, kind: type[nn.Linear] = nn.Linear) -> nn.Linear:
    """A linear layer with these parameters."""
    linear = kind(1, 1, bias=False, device="meta")  # torch warns about empty ones
    linear.out_features, linear.in_features = weight.shape
    linear.weight = weight
    linear.bias = bias  # type: ignore[assignment]
    return linear


def weights_of(model: nn.Module) -> dict[int, Any]:
    """The weights of ``model`` as ``copy.deepcopy`` takes them, to share what it would copy."""
    return {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}


def key_mask(attention_mask: Tensor, prefix: int) -> Tensor | None:
    """Turn a 0/1 mask [B, S] into an additive one [B, 1, 1, prefix + S]; None: nothing is padded.

    None saves time on a CPU. A GPU would have to synchronise to know, and an exported or compiled
    model cannot branch on data: there the mask always applies.
    """
    looks = attention_mask.device.type == "cpu" and not torch.compiler.is_compiling()
    if looks and bool(attention_mask.all()):
        return None
    mask = (1.0 - attention_mask.to(torch.float32)) * HIDDEN
    return F.pad(mask, (prefix, 0))[:, None, None, :]


def causal_mask(length: int, device: torch.device) -> Tensor | None:
    """Additive mask [1, 1, length, length] that hides later positions."""
    if length == 1:
        return None
    return torch.full((length, length), HIDDEN, device=device).triu(1)[None, None]
