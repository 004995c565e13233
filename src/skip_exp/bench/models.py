"""Models of known shapes with random weights: their speed is that of trained ones."""

from typing import Any

import torch
from transformers import BertConfig, BertModel

from skip_exp.attribution import random
from skip_exp.models.attention import swap_attention
from skip_exp.models.families import FAMILIES, HFModel
from skip_exp.models.prompts import build_prompt
from skip_exp.models.readouts import HeadReadout
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning import allocate

RATIO = 0.52  # of the block parameters: the paper's headline
LENGTH = 16  # of every prompt, ours and theirs


def _shape(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
    }


SHAPES = {
    "bert-tiny": _shape(128, 2, 2),
    "minilm": _shape(384, 6, 12),
    "bert-base": _shape(768, 12, 12),
    "bert-large": _shape(1024, 24, 16),
}


def config(shape: str) -> BertConfig:
    """BERT's settings at one of SHAPES."""
    return BertConfig(**SHAPES[shape])


def backbone(settings: BertConfig) -> HFModel:
    """A frozen BERT with random weights, its attention swapped."""
    torch.manual_seed(0)
    model = BertModel(settings, add_pooling_layer=False)
    swap_attention(model)  # first: modules of ours start in training mode, too
    return model.eval().requires_grad_(False)


def prompted(model: HFModel, prompt: str = "prefix", length: int = LENGTH) -> SoftPromptModel:
    """``model`` with a prompt (``prefix``, ``input`` or ``none``) and a readout of two labels."""
    family = FAMILIES["bert"]
    ids = torch.arange(length)
    soft = build_prompt(prompt, model, family, length=length, ids=ids, std=0.0, seed=0)
    readout = HeadReadout(model.config.hidden_size, 2)
    return SoftPromptModel(model, family, soft, readout).eval()


def keep_at(model: SoftPromptModel, ratio: float = RATIO) -> Keep:
    """A keep that removes ``ratio`` of the block parameters, chosen at random."""
    sizes = model.shapes()
    relevance = random.scores(model, [])
    return allocate.allocate(relevance, sizes, ratio=ratio, sites=["ffn", "heads"])
