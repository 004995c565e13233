"""Weights of a cut model by their names in ``SkipForSequenceClassification``."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from skip_exp.models.families.base import AttentionBlock, Block, HFModel
from skip_exp.models.prompts import InputPrompt, PrefixPrompt
from skip_exp.models.readouts import ClassifierReadout, HeadReadout, Seq2SeqReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.export.huggingface.modeling_skip import NORM_FIRST

SUBLAYERS = {"self": "attention", "cross": "cross", "ffn": "ffn"}  # names of sublayers in SkipLayer
Weights = Iterator[tuple[str, Tensor]]


def name_weights(model: SoftPromptModel) -> Weights:
    """Every weight that the export holds; a removed sublayer has at most its output bias."""
    family = model.family.layout
    modules = {"embeddings.words": model.backbone.get_input_embeddings()}
    modules |= MODULES[family](model.backbone)
    if isinstance(model.prompt, InputPrompt):
        yield "embeddings.prompt", model.prompt.embedding
    for block in model.blocks():
        name = f"{block.name.stack}.layers.{block.name.layer}.{SUBLAYERS[block.name.part]}"
        if block.output.in_features:
            yield from _block(f"{name}.inner", block, model)
            continue
        if block.output.bias is not None:
            yield f"{name}.bias", block.output.bias
        if family in NORM_FIRST:  # its norm serves the removed neurons alone
            del modules[f"{name}.norm"]
    for name, module in modules.items():
        yield from module.named_parameters(name)
    yield from _readout(model)


def _block(name: str, block: Block, model: SoftPromptModel) -> Weights:
    if not isinstance(block, AttentionBlock):
        names = ("up",) if len(block.up) == 1 else ("gate", "up")
        for part, linear in zip(names, block.up, strict=True):
            yield from linear.named_parameters(f"{name}.{part}")
        yield from block.down.named_parameters(f"{name}.down")
        return
    query, key, value = block.attention.projections()
    yield from query.named_parameters(f"{name}.query")
    yield from key.named_parameters(f"{name}.key")
    yield from value.named_parameters(f"{name}.value")
    yield from block.output.named_parameters(f"{name}.output")
    prompt = model.prompt
    if isinstance(prompt, PrefixPrompt) and block.name in prompt.names:
        i = prompt.names.index(block.name)
        yield f"{name}.prefix_key", prompt.keys[i].transpose(0, 1)
        yield f"{name}.prefix_value", prompt.values[i].transpose(0, 1)


def _bert_modules(backbone: HFModel) -> dict[str, nn.Module]:
    """Embeddings and norms of a BERT or RoBERTa."""
    core = backbone.base_model
    modules: dict[str, nn.Module] = {
        "embeddings.positions": core.embeddings.position_embeddings,
        "embeddings.types": core.embeddings.token_type_embeddings,
        "embeddings.norm": core.embeddings.LayerNorm,
    }
    for i, layer in enumerate(core.encoder.layer):
        modules[f"encoder.layers.{i}.attention.norm"] = layer.attention.output.LayerNorm
        modules[f"encoder.layers.{i}.ffn.norm"] = layer.output.LayerNorm
    return modules


def _modernbert_modules(backbone: HFModel) -> dict[str, nn.Module]:
    """Norms of a ModernBERT."""
    core = backbone.base_model
    modules = {"embeddings.norm": core.embeddings.norm, "encoder.norm": core.final_norm}
    for i, layer in enumerate(core.layers):
        modules[f"encoder.layers.{i}.attention.norm"] = layer.attn_norm
        modules[f"encoder.layers.{i}.ffn.norm"] = layer.mlp_norm
    return modules


def _t5_modules(backbone: HFModel) -> dict[str, nn.Module]:
    """Position tables and norms of a T5."""
    modules: dict[str, nn.Module] = {}
    core: HFModel = backbone.base_model
    for name in ("encoder", "decoder"):
        if not hasattr(core, name):
            continue
        stack = getattr(core, name)
        table = stack.block[0].layer[0].SelfAttention.relative_attention_bias
        modules |= {f"{name}.position_bias.table": table, f"{name}.norm": stack.final_layer_norm}
        for i, block in enumerate(stack.block):
            parts = ("attention", "cross", "ffn") if len(block.layer) == 3 else ("attention", "ffn")
            for part, layer in zip(parts, block.layer, strict=True):
                modules[f"{name}.layers.{i}.{part}.norm"] = layer.layer_norm
    return modules


MODULES = {
    "bert": _bert_modules,
    "roberta": _bert_modules,
    "modernbert": _modernbert_modules,
    "t5": _t5_modules,
}


def _readout(model: SoftPromptModel) -> Weights:
    readout, backbone = model.readout, model.backbone
    if isinstance(readout, HeadReadout):
        yield from readout.linear.named_parameters("classifier")
    elif isinstance(readout, ClassifierReadout):
        yield from readout.dense.named_parameters("transform.0")
        for i, module in enumerate(readout.between.children(), 1):
            yield from module.named_parameters(f"transform.{i}")
        yield from readout.out.named_parameters("classifier")
    elif isinstance(readout, Seq2SeqReadout):
        yield "lm_head.weight", backbone.lm_head.weight
    elif hasattr(backbone, "cls"):  # BERT's masked language model
        head = backbone.cls.predictions
        yield from _words(head.transform.dense, head.transform.LayerNorm, head.decoder, readout)
    elif hasattr(backbone, "lm_head"):  # RoBERTa's
        head = backbone.lm_head
        yield from _words(head.dense, head.layer_norm, head.decoder, readout)
    else:
        yield from _words(backbone.head.dense, backbone.head.norm, backbone.decoder, readout)


def _words(dense: nn.Linear, norm: nn.Module, decoder: nn.Linear, readout: Any) -> Weights:
    """The masked language model's head, with the output rows of the label words only."""
    yield from dense.named_parameters("transform.0")
    yield from norm.named_parameters("transform.2")
    yield "classifier.weight", decoder.weight[readout.word_ids]
    bias = torch.zeros(len(decoder.weight)) if decoder.bias is None else decoder.bias
    yield "classifier.bias", bias[readout.word_ids]
