"""Convert a cut model to one that transformers loads without this package; register its classes.

Once this module is imported, loading such a model needs no ``trust_remote_code``.
``from skip_exp import Skill`` imports it.
"""

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerBase

from skip_exp.errors import SkipError
from skip_exp.models.families.base import AttentionBlock, HFModel
from skip_exp.models.prompts import PROMPT_CLASSES, PrefixPrompt
from skip_exp.models.readouts import ClassifierReadout, HeadReadout, MlmReadout, Seq2SeqReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.export.huggingface.modeling_skip import (
    SkipConfig,
    SkipForSequenceClassification,
)
from skip_exp.skill.export.huggingface.weights import MODULES, name_weights
from skip_exp.skill.record import SkillRecord

AutoConfig.register(SkipConfig.model_type, SkipConfig, exist_ok=True)
AutoModelForSequenceClassification.register(
    SkipConfig, SkipForSequenceClassification, exist_ok=True
)


def write_huggingface(
    folder: Path, about: SkillRecord, model: SoftPromptModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """``config.json``, ``model.safetensors``, ``modeling_skip.py`` and the tokenizer.

    Raises:
        SkipError: a family without a layout, or rotations that are not ModernBERT's own.
    """
    origin = {
        "task": about.task,
        "text": about.text,
        "max_length": about.max_length,
        "backbone": about.backbone.model_dump(include={"name", "content_hash"}),
        "scores": about.scores.model_dump(),
    }
    if about.multilabel:
        origin["threshold"] = about.threshold
    if kept := getattr(model.backbone.config, "vocabulary", None):
        origin["vocabulary"] = kept
    made = to_huggingface(model, about.labels, origin, multilabel=about.multilabel)
    made.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # the library lets only their owner read them
        shutil.copymode(folder / "config.json", weights)
    own = copy.deepcopy(tokenizer)  # skills of one backbone share theirs
    own.model_max_length = about.max_length  # `truncation=True` truncates to this
    own.padding_side = "right"  # as the skill itself pads: positions count from the first token
    own.save_pretrained(folder)


def to_huggingface(
    model: SoftPromptModel,
    labels: Sequence[str],
    origin: dict[str, Any] | None = None,
    *,
    multilabel: bool = False,
) -> SkipForSequenceClassification:
    """The same function as a Hugging Face model, which shares most weights with ``model``.

    Args:
        labels: class names in label order.
        origin: where the model comes from, for ``config.json``.
        multilabel: a text has any number of labels.

    Raises:
        SkipError: a family without a layout, or rotations that are not ModernBERT's own.
    """
    if model.family.layout not in MODULES:
        raise SkipError(f"--format hf: has no layout for the family {model.family.name}")
    config = SkipConfig(
        **_settings(model),
        **_readout_settings(model),
        encoder=_sizes(model, "encoder"),
        decoder=_sizes(model, "decoder"),
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
        problem_type="multi_label_classification" if multilabel else "single_label_classification",
        logits_temperature=model.temperature,
        skill=origin or {},
    )
    state = {name: tensor.detach().contiguous() for name, tensor in name_weights(model)}
    with torch.device("meta"):
        made = SkipForSequenceClassification(config)
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["embeddings.words.weight"]
    made.load_state_dict(state, assign=True)
    made.tie_weights()
    made.train(False)
    return made


def _settings(model: SoftPromptModel) -> dict[str, Any]:
    """The settings that follow from family and prompt."""
    core, prompt, family = model.backbone.config, model.prompt, model.family
    attention = next(iter(model.attention_blocks().values())).attention
    stacks = {n.stack for n in prompt.names} if isinstance(prompt, PrefixPrompt) else set()
    kinds = {kind: name for name, kind in PROMPT_CLASSES.items()}
    kind = {
        "kind": kinds[type(prompt)],
        "length": prompt.length,
        "decoder": "decoder" in stacks,
    }
    settings = {
        "family": family.layout,
        "prompt": kind,
        "vocab_size": model.backbone.get_input_embeddings().weight.shape[0],
        "hidden_size": core.hidden_size,
        "original_heads": attention.total_heads,
        "head_dim": attention.head_dim,
        "attention_scaling": attention.scaling,
        "linear_bias": family.layout in ("bert", "roberta"),
    }
    if family.name == "modernbert":
        return settings | _modernbert_settings(model.backbone)
    if family.name == "t5":
        return settings | {
            "hidden_act": core.dense_act_fn,
            "gated": core.is_gated_act,
            "norm_eps": core.layer_norm_epsilon,
            "hidden_dropout": core.dropout_rate,
            "attention_dropout": core.dropout_rate,
            "position_buckets": core.relative_attention_num_buckets,
            "position_max_distance": core.relative_attention_max_distance,
        }
    return settings | {
        "hidden_act": core.hidden_act,
        "norm_eps": core.layer_norm_eps,
        "hidden_dropout": core.hidden_dropout_prob,
        "attention_dropout": core.attention_probs_dropout_prob,
        "max_position_embeddings": core.max_position_embeddings,
        "position_offset": family.position_offset(core),
        "type_vocab_size": core.type_vocab_size,
    }


def _modernbert_settings(backbone: HFModel) -> dict[str, Any]:
    core, encoder = backbone.config, backbone.base_model
    kinds = {"full": "full_attention", "local": "sliding_attention"}
    used = {name: kind for name, kind in kinds.items() if kind in core.layer_types}
    types = {core.rope_parameters[kind]["rope_type"] for kind in used.values()}
    if types != {"default"} or core.attention_bias != core.mlp_bias:
        raise SkipError("--format hf: has no place for scaled rotations, nor for biases in part")
    of = {name: getattr(encoder.rotary_emb, f"{kind}_inv_freq") for name, kind in used.items()}
    return {
        "hidden_act": core.hidden_activation,
        "gated": True,
        "linear_bias": core.attention_bias,
        "head_act": core.classifier_activation,
        "head_bias": core.classifier_bias,
        "classifier_pooling": core.classifier_pooling,
        "norm_eps": core.norm_eps,
        "norm_bias": core.norm_bias,
        "hidden_dropout": 0.0,  # the library's default
        "attention_dropout": core.attention_dropout,
        "rotations": {name: x.tolist() for name, x in of.items()},
        "window": core.sliding_window,
    }


def _readout_settings(model: SoftPromptModel) -> dict[str, Any]:
    readout = model.readout
    if isinstance(readout, HeadReadout):
        return {"readout": "head", "pooling": readout.pooling}
    if isinstance(readout, MlmReadout):
        return {"readout": "mlm", "mask_id": readout.mask_id}
    backbone: HFModel = model.backbone
    if isinstance(readout, ClassifierReadout):
        start = getattr(backbone.config, "decoder_start_token_id", None) or 0
        return {"readout": "classifier", "start_id": start}
    assert isinstance(readout, Seq2SeqReadout)
    rows = zip(readout.targets.tolist(), readout.real.sum(1).int().tolist(), strict=True)
    return {
        "readout": "seq2seq",
        "label_words": [ids[:count] for ids, count in rows],
        "start_id": readout.start_id,
        "scale_decoder": bool(backbone.config.scale_decoder_outputs),
        "tie_word_embeddings": backbone.lm_head.weight is backbone.shared.weight,
    }


def _sizes(model: SoftPromptModel, stack: str) -> list[dict[str, dict[str, Any]]]:
    """The sizes of every layer of ``stack``, as :class:`SkipConfig` describes them."""
    layers: dict[int, dict[str, dict[str, Any]]] = {}
    for block in (b for b in model.blocks() if b.name.stack == stack):
        sizes: dict[str, Any] = {"units": block.output.in_features}
        if isinstance(block, AttentionBlock):
            sizes = {"heads": block.attention.head_ids}
            if model.family.name == "modernbert":
                layer = model.backbone.base_model.layers[block.name.layer]
                sizes["local"] = layer.attention_type == "sliding_attention"
                sizes["norm"] = not isinstance(layer.attn_norm, nn.Identity)
        sizes["bias"] = block.output.bias is not None
        layers.setdefault(block.name.layer, {})[block.name.part] = sizes
    return [layers[i] for i in sorted(layers)]
