"""A text classifier made by skip_exp: a soft prompt on a language model cut to what it needs.

    AutoModelForSequenceClassification.from_pretrained(FOLDER, trust_remote_code=True)

One file for BERT, RoBERTa, ModernBERT and T5; it needs only torch and transformers. It differs from
the library's own models in four points:

* Every layer has its own sizes: which attention heads, how many FFN units. ``config.json`` lists
  them.
* A sublayer without neurons is skipped; if it had an output bias, only the bias is added.
* A soft prompt goes before the text: embeddings at the input, or constant keys and values (a
  prefix) in every self-attention.
* Class logits come from a linear head, from a masked language model's scores of label words at a
  [MASK], from the log-probabilities of label words under T5's decoder, or from the head of the
  fine-tuned classifier that was cut.

Shapes: B texts of T tokens with hidden size H, padded on the right. Masks are additive: 0 shows a
key, HIDDEN hides it.
"""

# mypy: disable-error-code="no-untyped-call"
import math
from dataclasses import field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import SequenceClassifierOutput

HIDDEN = -1e4  # exp() underflows to 0 in fp16, bf16 and fp32
NO_PROMPT = {"kind": "none", "length": 0, "decoder": False}
NORM_FIRST = ("t5", "modernbert")  # families whose sublayers begin with a norm
Sizes = dict[str, Any]
Turn = tuple[Tensor, Tensor]


class SkipConfig(PreTrainedConfig):
    """The settings in ``config.json``.

    ``encoder`` and ``decoder`` list the sizes of each layer: ``{"self": attention, "ffn": ffn}``,
    and ``"cross"`` in a decoder. An attention has ``heads`` (which of the original ones are left),
    an FFN has ``units``. Both have ``bias``: whether the output has one. ModernBERT's attentions
    also have ``local`` (whether they see only a window) and ``norm`` (the first has none).
    """

    model_type = "skip_exp"

    family: str = "bert"  # bert, roberta, modernbert or t5
    readout: str = "head"  # head, mlm, seq2seq or classifier
    pooling: str = "mean"  # head: mean or cls
    classifier_pooling: str = "cls"  # classifier: the same
    # kind (input, prefix or none), length in tokens, decoder: whether T5's decoder has a prefix
    prompt: Sizes = field(default_factory=lambda: dict(NO_PROMPT))
    encoder: list[dict[str, Sizes]] = field(default_factory=list)
    decoder: list[dict[str, Sizes]] = field(default_factory=list)
    vocab_size: int = 30522
    hidden_size: int = 768
    original_heads: int = 12  # of each attention before pruning
    head_dim: int = 64
    attention_scaling: float = 0.125  # factor of the scores
    hidden_act: str = "gelu"  # activation of the FFNs
    gated: bool = False  # whether the FFNs have a gate
    head_act: str | None = None  # of the layer before the last one; None: as the family does
    head_bias: bool = True  # of the same
    linear_bias: bool = True  # of the linear layers other than a sublayer's output
    norm_eps: float = 1e-12
    norm_bias: bool = True  # of norms other than T5's
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    max_position_embeddings: int = 512
    position_offset: int = 0  # RoBERTa's positions start after its padding id
    type_vocab_size: int = 2
    position_buckets: int = 32  # of T5's relative position bias
    position_max_distance: int = 128
    # ModernBERT: the rotations of all pairs of dimensions by one token, in layers that see a window
    # (local) and in others (full); how far local ones see.
    rotations: dict[str, list[float]] = field(default_factory=dict)
    window: int = 0
    mask_id: int | None = None  # mlm: the token [MASK]
    label_words: list[list[int]] = field(default_factory=list)  # seq2seq: tokens of each label
    start_id: int = 0  # the decoder's first token
    scale_decoder: bool = False  # whether T5's tied output embeddings take a scaled hidden state
    tie_word_embeddings: bool = False
    logits_temperature: float = 1.0  # divides the logits, so that probabilities are calibrated
    skill: dict[str, Any] = field(default_factory=dict)  # where the model comes from

    @property
    def input_length(self) -> int:
        """Prompt tokens before the text."""
        return self.prompt["length"] if self.prompt["kind"] == "input" else 0

    def prefix_length(self, stack: str) -> int:
        """Prefix tokens of every self-attention of ``encoder`` or ``decoder``."""
        has = self.prompt["kind"] == "prefix" and (stack == "encoder" or self.prompt["decoder"])
        return self.prompt["length"] if has else 0


class SkipRMSNorm(nn.Module):
    """T5's norm: no mean, no bias, in fp32."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden.float()
        hidden = hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * hidden.to(self.weight.dtype)


def new_norm(config: SkipConfig) -> nn.Module:
    if config.family == "t5":
        return SkipRMSNorm(config.hidden_size, config.norm_eps)
    return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=config.norm_bias)


class SkipEmbeddings(nn.Module):
    """Embeddings of prompt and text; BERT and RoBERTa add position and token type embeddings."""

    def __init__(self, config: SkipConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.words: nn.Module = nn.Embedding(config.vocab_size, size)
        self.prompt: nn.Parameter | None = None
        if config.input_length:
            self.prompt = nn.Parameter(torch.zeros(config.input_length, size))
        self.has_positions = config.family in ("bert", "roberta")
        if self.has_positions:
            self.positions = nn.Embedding(config.max_position_embeddings, size)
            self.types = nn.Embedding(config.type_vocab_size, size)
        self.norm = nn.Identity() if config.family == "t5" else new_norm(config)
        self.offset = config.position_offset
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, ids: Tensor, token_types: Tensor | None = None) -> Tensor:
        """Token ids [B, T] and types [B, up to T] -> [B, prompt + T, H]."""
        hidden = self.words(ids)
        if self.prompt is not None:
            hidden = torch.cat([self.prompt.expand(len(ids), -1, -1), hidden], dim=1)
        if self.has_positions:
            length = hidden.shape[1]
            if length > self.positions.num_embeddings - self.offset:
                most = self.positions.num_embeddings - self.offset - (length - ids.shape[1])
                raise ValueError(
                    f"the text has {ids.shape[1]} tokens, but at most {most} have positions: "
                    "tokenize with truncation=True"
                )
            if token_types is None:
                token_types = torch.zeros_like(ids)
            token_types = F.pad(token_types, (length - token_types.shape[1], 0))
            places = torch.arange(length, device=ids.device) + self.offset
            hidden = hidden + self.types(token_types) + self.positions(places)
        return self.dropout(self.norm(hidden))


class SkipPositionBias(nn.Module):
    """T5's bias of attention scores by the distance from query to key.

    The table has all original heads. An attention uses the rows of its remaining heads.
    """

    def __init__(self, config: SkipConfig, bidirectional: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(config.position_buckets, config.original_heads)
        self.max_distance = config.position_max_distance
        self.bidirectional = bidirectional

    def forward(self, length: int) -> Tensor:
        """[1, original heads, length, length]."""
        places = torch.arange(length, device=self.table.weight.device)
        return self.table(self.buckets(places - places[:, None])).permute(2, 0, 1)[None]

    def buckets(self, distance: Tensor) -> Tensor:
        """One bucket per small distance, then logarithmically wider ones; later keys apart."""
        count = self.table.num_embeddings
        if self.bidirectional:
            count //= 2
            first, far = torch.where(distance > 0, count, 0), distance.abs()
        else:
            first, far = torch.zeros_like(distance), (-distance).clamp_min(0)
        near = count // 2
        growth = torch.log(far.clamp_min(1).float() / near) / math.log(self.max_distance / near)
        wide = (near + (growth * (count - near)).long()).clamp_max(count - 1)
        return first + torch.where(far < near, far, wide)


class SkipRotations(nn.Module):
    """ModernBERT's positions: cosines and sines by which pairs of dimensions turn."""

    def __init__(self, config: SkipConfig) -> None:
        super().__init__()
        self.by_token, self.window = config.rotations, config.window

    def forward(self, kind: str, hidden: Tensor) -> Turn:
        """Each [T, head_dim / 2] for ``hidden`` [B, T, H]; ``kind``: full or local."""
        places = torch.arange(hidden.shape[1], device=hidden.device, dtype=torch.float32)
        angles = places[:, None] * torch.tensor(self.by_token[kind], device=hidden.device)
        return angles.cos(), angles.sin()

    def local(self, mask: Tensor, length: int) -> Tensor:
        """``mask`` [B, 1, 1, T] that also hides keys beyond the window: [B, 1, T, T]."""
        places = torch.arange(length, device=mask.device)
        return mask + ((places - places[:, None]).abs() > self.window).to(mask.dtype) * HIDDEN


class SkipAttention(nn.Module):
    """Attention with the remaining heads, and with a prefix if there is one."""

    def __init__(self, config: SkipConfig, sizes: Sizes, prefix: int) -> None:
        super().__init__()
        self.heads, self.config, self.prefix = list(sizes["heads"]), config, prefix
        hidden, bias, dims = config.hidden_size, config.linear_bias, config.head_dim
        self.query = nn.Linear(hidden, len(self.heads) * dims, bias=bias)
        self.key = nn.Linear(hidden, len(self.heads) * dims, bias=bias)
        self.value = nn.Linear(hidden, len(self.heads) * dims, bias=bias)
        self.output = nn.Linear(len(self.heads) * dims, hidden, bias=sizes["bias"])
        if prefix:
            self.prefix_key = nn.Parameter(torch.zeros(len(self.heads), prefix, dims))
            self.prefix_value = nn.Parameter(torch.zeros(len(self.heads), prefix, dims))

    def forward(
        self, hidden: Tensor, mask: Tensor, source: Tensor | None = None, turn: Turn | None = None
    ) -> Tensor:
        """Attend from ``hidden`` [B, T, H] to ``source`` [B, S, H], by default to itself.

        ``mask``: [B or 1, original heads or 1, T or 1, prefix + S]. ``turn``: of SkipRotations.
        """
        source = hidden if source is None else source
        if mask.shape[1] > 1:
            mask = mask[:, self.heads]
        query, key = self.split(self.query(hidden)), self.split(self.key(source))
        value = self.split(self.value(source))
        if turn is not None:
            query, key = self.turned(query, turn), self.turned(key, turn)
        if self.prefix:
            key = self.behind(self.prefix_key, key)
            value = self.behind(self.prefix_value, value)
        dropout = self.config.attention_dropout if self.training else 0.0
        scale = self.config.attention_scaling
        if self.config._attn_implementation != "eager":
            context = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask.to(query.dtype), dropout_p=dropout, scale=scale
            )
        else:
            scores = mask + query @ key.transpose(2, 3) * scale
            weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
            context = F.dropout(weights, dropout) @ value
        return self.output(context.transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        """[B, T, heads * dims] -> [B, heads, T, dims]."""
        return x.unflatten(2, (len(self.heads), self.config.head_dim)).transpose(1, 2)

    def turned(self, x: Tensor, turn: Turn) -> Tensor:
        """``x`` [B, heads, T, dims] with its pairs (i, i + half) turned."""
        cos, sin = turn
        a, b = x.float().chunk(2, dim=3)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=3).to(x.dtype)

    def behind(self, prefix: Tensor, x: Tensor) -> Tensor:
        """``x`` [B, heads, T, dims] after the ``prefix`` [heads, length, dims]."""
        return torch.cat([prefix.to(x.dtype).expand(len(x), -1, -1, -1), x], dim=2)


class SkipFeedForward(nn.Module):
    """An FFN with its remaining units."""

    def __init__(self, config: SkipConfig, sizes: Sizes) -> None:
        super().__init__()
        hidden, units, bias = config.hidden_size, sizes["units"], config.linear_bias
        self.gate = nn.Linear(hidden, units, bias=bias) if config.gated else None
        self.up = nn.Linear(hidden, units, bias=bias)
        self.down = nn.Linear(units, hidden, bias=sizes["bias"])
        self.act = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout if config.family == "t5" else 0.0)

    def forward(self, hidden: Tensor) -> Tensor:
        up = self.up(hidden)
        units = self.act(up) if self.gate is None else self.act(self.gate(hidden)) * up
        return self.down(self.dropout(units).to(self.down.weight.dtype))  # may be fp32


class SkipSublayer(nn.Module):
    """An attention or FFN with its norm and residual connection.

    Without neurons (``inner`` is None) only the output bias is added. BERT and RoBERTa then still
    apply the norm.
    """

    def __init__(self, config: SkipConfig, inner: nn.Module | None, sizes: Sizes) -> None:
        super().__init__()
        self.inner = inner
        self.norm_first = config.family in NORM_FIRST
        self.bias: nn.Parameter | None = None
        if inner is None and sizes["bias"]:
            self.bias = nn.Parameter(torch.zeros(config.hidden_size))
        has_norm = sizes.get("norm", True) and not (inner is None and self.norm_first)
        self.norm = new_norm(config) if has_norm else nn.Identity()
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, hidden: Tensor, *more: Tensor | None) -> Tensor:
        if self.inner is not None:
            added = self.inner(self.norm(hidden) if self.norm_first else hidden, *more)
            hidden = hidden + self.dropout(added)
        elif self.bias is not None:
            hidden = hidden + self.dropout(self.bias.expand_as(hidden))
        return hidden if self.norm_first else self.norm(hidden)


class SkipLayer(nn.Module):
    """Self-attention, cross-attention (in a decoder only), FFN."""

    def __init__(self, config: SkipConfig, sizes: dict[str, Sizes], prefix: int) -> None:
        super().__init__()
        self.kind = "local" if sizes["self"].get("local") else "full"
        self.attention = self.attending(config, sizes["self"], prefix)
        self.cross = self.attending(config, sizes["cross"], 0) if "cross" in sizes else None
        ffn = sizes["ffn"]
        inner = SkipFeedForward(config, ffn) if ffn["units"] else None
        self.ffn = SkipSublayer(config, inner, ffn)

    @staticmethod
    def attending(config: SkipConfig, sizes: Sizes, prefix: int) -> SkipSublayer:
        inner = SkipAttention(config, sizes, prefix) if sizes["heads"] else None
        return SkipSublayer(config, inner, sizes)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
        turn: Turn | None = None,
    ) -> Tensor:
        hidden = self.attention(hidden, mask, None, turn)
        if self.cross is not None:
            hidden = self.cross(hidden, source_mask, source)
        return self.ffn(hidden)


class SkipStack(nn.Module):
    """The layers of the encoder, or of T5's decoder."""

    def __init__(self, config: SkipConfig, name: str) -> None:
        super().__init__()
        self.prefix = config.prefix_length(name)
        sizes = config.encoder if name == "encoder" else config.decoder
        self.layers = nn.ModuleList(SkipLayer(config, each, self.prefix) for each in sizes)
        self.position_bias: nn.Module | None = None
        if config.family == "t5":
            self.position_bias = SkipPositionBias(config, bidirectional=name == "encoder")
        self.rotations = SkipRotations(config) if config.rotations else None
        self.norm_first = config.family in NORM_FIRST
        if self.norm_first:
            self.norm = new_norm(config)
            self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """``hidden`` [B, T, H] and its mask; a decoder also sees ``source`` [B, S, H]."""
        if self.position_bias is not None:
            mask = mask + self.position_bias(hidden.shape[1]).to(mask)
        masks: dict[str, Tensor] = {"full": mask}
        turns: dict[str, Turn] = {}
        if self.rotations is not None:
            masks["local"] = self.rotations.local(mask, hidden.shape[1])
            turns = {kind: self.rotations(kind, hidden) for kind in self.rotations.by_token}
        # Every query sees the prefix, at no distance.
        masks = {kind: F.pad(x, (self.prefix, 0)) for kind, x in masks.items()}
        for layer in self.layers:
            kind: Any = layer.kind
            hidden = layer(hidden, masks[kind], source, source_mask, turns.get(kind))
        return self.dropout(self.norm(hidden)) if self.norm_first else hidden


class SkipForSequenceClassification(PreTrainedModel):
    """Texts to class logits."""

    config_class = SkipConfig
    _no_split_modules = ["SkipEmbeddings", "SkipLayer"]  # noqa: RUF012 (the library's own way)
    _supports_sdpa = True
    _tied_weights_keys = {"lm_head.weight": "embeddings.words.weight"}  # noqa: RUF012 (the same)

    def __init__(self, config: SkipConfig) -> None:
        super().__init__(config)
        hidden = config.hidden_size
        self.embeddings = SkipEmbeddings(config)
        self.encoder = SkipStack(config, "encoder")
        if config.decoder:
            self.decoder = SkipStack(config, "decoder")
        if config.readout == "seq2seq":
            self.lm_head = nn.Linear(hidden, config.vocab_size, bias=False)
        else:
            dense = nn.Linear(hidden, hidden, bias=config.head_bias)
            if config.readout == "mlm" or (config.readout == "classifier" and config.head_act):
                usual = "gelu" if config.family == "roberta" else config.hidden_act
                act = ACT2FN[config.head_act or usual]
                self.transform = nn.Sequential(dense, act, new_norm(config))
            elif config.readout == "classifier":
                self.transform = nn.Sequential(dense, nn.Tanh())
            self.classifier = nn.Linear(hidden, config.num_labels or 2)
        if config.family == "t5":  # its FFNs and the sums behind them can overflow in fp16
            self._keep_in_fp32_modules = ["down"]
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.words

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.words = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Tensor, ...]:
        """Token ids, 0/1 mask and types [B, T], labels [B] -> logits [B, labels] in fp32, loss.

        Where a text has any number of labels, these are 0 and 1 [B, labels].
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if self.config.readout == "mlm":  # [MASK] after the first token
            mask_token = torch.full_like(input_ids[:, :1], self.config.mask_id)
            input_ids = torch.cat([input_ids[:, :1], mask_token, input_ids[:, 1:]], dim=1)
        hidden = self.embeddings(input_ids, token_type_ids)
        added = hidden.shape[1] - attention_mask.shape[1]
        seen = F.pad(attention_mask, (added, 0), value=1)
        mask = ((1.0 - seen.float()) * HIDDEN).to(hidden.dtype)[:, None, None]
        hidden = self.encoder(hidden, mask)
        if self.config.readout == "seq2seq":
            logits = self.label_words(hidden, mask)
        elif self.config.readout == "classifier" and self.config.decoder:
            last = self.last_state(input_ids, attention_mask, hidden, mask)
            logits = self.classifier(self.transform(last)).float()
        else:
            logits = self.classifier(self.pooled(hidden, seen)).float()
        logits = logits / self.config.logits_temperature
        loss = None
        if labels is not None and self.config.problem_type == "multi_label_classification":
            loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits))
        elif labels is not None:
            loss = F.cross_entropy(logits, labels.to(logits.device))
        output = SequenceClassifierOutput(loss=loss, logits=logits)
        return output.to_tuple() if return_dict is False else output

    def pooled(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """``hidden`` [B, prompt + T, H] -> the classifier's input [B, H]."""
        text, weight = hidden[:, self.config.input_length :], seen[:, self.config.input_length :]
        if self.config.readout == "mlm":
            return self.transform(text[:, 1])
        is_classifier = self.config.readout == "classifier"
        how = self.config.classifier_pooling if is_classifier else self.config.pooling
        state = text[:, 0]
        if how == "mean":
            text, weight = text.float(), weight.to(text.device, torch.float32)
            mean = (text * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp_min(1)
            state = mean.to(self.classifier.weight.dtype)
        return self.transform(state) if is_classifier else state

    def last_state(self, ids: Tensor, seen: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
        """The decoder's state at each text's last token [B, H]; it reads the text, shifted."""
        inputs = F.pad(ids[:, :-1], (1, 0), value=self.config.start_id)
        states = self.decode(inputs, hidden, mask)
        return states[torch.arange(len(ids), device=ids.device), seen.sum(1).long() - 1]

    def decode(self, inputs: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
        """The decoder's states [B, T, H] for its token ids ``inputs`` [B, T]."""
        length = inputs.shape[1]
        later = torch.full((length, length), HIDDEN, device=hidden.device).triu(1)[None, None]
        words = self.embeddings.dropout(self.embeddings.words(inputs))
        return self.decoder(words, later.to(mask.dtype), hidden, mask)

    def label_words(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Log-probability [B, labels] of each label's words under the decoder, in one pass."""
        words, width = self.config.label_words, max(map(len, self.config.label_words))
        padded = [[*ids, *[0] * (width - len(ids))] for ids in words]
        targets = torch.tensor(padded, device=hidden.device)
        real = torch.tensor([[i < len(ids) for i in range(width)] for ids in words])
        inputs = F.pad(targets[:, :-1], (1, 0), value=self.config.start_id)
        if width == 1:  # all labels share the one step
            inputs = inputs[:1]
        batch, rows = len(hidden), len(inputs)
        repeated = hidden.repeat_interleave(rows, 0), mask.repeat_interleave(rows, 0)
        decoded = self.decode(inputs.repeat(batch, 1), *repeated)
        if self.config.scale_decoder:
            decoded = decoded * self.config.hidden_size**-0.5
        scores = self.lm_head(decoded).log_softmax(-1, dtype=torch.float32)
        scores = scores.unflatten(0, (batch, rows)).expand(-1, len(words), -1, -1)
        targets = targets.to(scores.device).expand(batch, -1, -1)[..., None]
        return (scores.gather(3, targets)[..., 0] * real.to(scores.device)).sum(2)


# Lets `save_pretrained` copy this file into the folder and name it in `config.json`.
SkipConfig.register_for_auto_class()
SkipForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
