"""Convert a cut model to one that transformers loads without this package; register its classes.

With this module imported (``from skip_exp import Skill`` does it), nobody needs
``trust_remote_code``.
"""

import copy
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerBase

from skip_exp.errors import SkipError
from skip_exp.models.families.base import AttentionBlock, Block, HFModel
from skip_exp.models.prompts.base import NoPrompt
from skip_exp.models.prompts.input import InputPrompt
from skip_exp.models.prompts.prefix import PrefixPrompt
from skip_exp.models.readouts.head import HeadReadout
from skip_exp.models.readouts.mlm import MlmReadout
from skip_exp.models.readouts.seq2seq import Seq2SeqReadout
from skip_exp.models.sites import Sublayer
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.export.huggingface.modeling_skip import (
    SkipConfig,
    SkipForSequenceClassification,
)
from skip_exp.skill.record import SkillRecord

AutoConfig.register(SkipConfig.model_type, SkipConfig, exist_ok=True)
AutoModelForSequenceClassification.register(
    SkipConfig, SkipForSequenceClassification, exist_ok=True
)

PROMPTS = {InputPrompt: "input", PrefixPrompt: "prefix", NoPrompt: "none"}
PARTS = {"self": "attention", "cross": "cross", "ffn": "ffn"}  # of sublayers, in the other model


def write_huggingface(
    folder: Path, about: SkillRecord, model: SoftPromptModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """``config.json``, ``model.safetensors``, ``modeling_skip.py`` and the tokenizer.

    Raises:
        SkipError: a custom prompt or readout.
    """
    origin = {
        "task": about.task,
        "text": about.text,
        "max_length": about.max_length,
        "backbone": about.backbone.model_dump(include={"name", "content_hash"}),
        "scores": about.scores.model_dump(),
    }
    if kept := getattr(model.backbone.config, "vocabulary", None):
        origin["vocabulary"] = kept
    to_huggingface(model, about.labels, origin).save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # the library leaves them to their owner alone
        shutil.copymode(folder / "config.json", weights)
    own = copy.deepcopy(tokenizer)  # the skill's is shared with others of its backbone
    own.model_max_length = about.max_length  # what `truncation=True` truncates to
    own.save_pretrained(folder)


def to_huggingface(
    model: SoftPromptModel, labels: Sequence[str], origin: dict[str, Any] | None = None
) -> SkipForSequenceClassification:
    """The same function as a Hugging Face model; it shares what weights it can with ``model``.

    Args:
        labels: class names in label order.
        origin: what ``config.json`` says of where the model comes from.

    Raises:
        SkipError: a custom prompt or readout.
    """
    if type(model.prompt) not in PROMPTS:
        raise SkipError(f"--format hf: has no place for the prompt {_name(model.prompt)}")
    if type(model.readout) not in (HeadReadout, MlmReadout, Seq2SeqReadout):
        raise SkipError(f"--format hf: has no place for the readout {_name(model.readout)}")
    names = dict(enumerate(labels))
    config = SkipConfig(
        **_settings(model),
        **_readout_settings(model),
        encoder=_sizes(model, "encoder"),
        decoder=_sizes(model, "decoder") if isinstance(model.readout, Seq2SeqReadout) else [],
        id2label=names,
        label2id={name: i for i, name in names.items()},
        problem_type="single_label_classification",
        skill=origin,
    )
    state = {name: tensor.detach().contiguous() for name, tensor in _state(model)}
    with torch.device("meta"):
        made = SkipForSequenceClassification(config)
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["embeddings.words.weight"]
    made.load_state_dict(state, assign=True)
    made.tie_weights()
    made.train(False)
    return made


def _name(part: nn.Module) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"


def _settings(model: SoftPromptModel) -> dict[str, Any]:
    """The settings that follow from family and prompt."""
    backbone: HFModel = model.backbone
    core, prompt = backbone.config, model.prompt
    attention = next(iter(model.attention_blocks().values())).attention
    in_decoder = isinstance(prompt, PrefixPrompt) and any(
        n.stack == "decoder" for n in prompt.names
    )
    settings = {
        "family": model.family.name,
        "prompt": {
            "kind": PROMPTS[type(prompt)],
            "length": prompt.length,
            "decoder": in_decoder,
        },
        "vocab_size": backbone.get_input_embeddings().weight.shape[0],
        "hidden_size": core.hidden_size,
        "original_heads": attention.total_heads,
        "attention_scaling": attention.scaling,
    }
    if model.family.name == "t5":
        return settings | {
            "hidden_act": core.dense_act_fn,
            "gated": core.is_gated_act,
            "linear_bias": False,
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
        "position_offset": core.pad_token_id + 1 if model.family.name == "roberta" else 0,
        "type_vocab_size": core.type_vocab_size,
    }


def _readout_settings(model: SoftPromptModel) -> dict[str, Any]:
    readout = model.readout
    if isinstance(readout, HeadReadout):
        return {"readout": "head", "pooling": readout.pooling}
    if isinstance(readout, MlmReadout):
        return {"readout": "mlm", "mask_id": readout.mask_id}
    assert isinstance(readout, Seq2SeqReadout)
    rows = zip(readout.targets.tolist(), readout.real.sum(1).int().tolist(), strict=True)
    backbone: HFModel = model.backbone
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
    for block in model.blocks():
        if block.name.stack == stack:
            sizes: dict[str, Any] = {"bias": block.output.bias is not None}
            if isinstance(block, AttentionBlock):
                a = block.attention
                sizes = {"heads": a.head_ids, "qk": a.qk_dim, "vo": a.vo_dim} | sizes
            else:
                sizes = {"units": block.down.in_features} | sizes
            layers.setdefault(block.name.layer, {})[block.name.part] = sizes
    return [layers[i] for i in sorted(layers)]


def shared_names(model: SoftPromptModel) -> dict[str, str]:
    """{parameter: its name in the other model} of those that are the same there and here."""
    there: dict[int, str] = {}
    for name, tensor in _state(model):
        there.setdefault(id(tensor), name)  # of tied ones the first, which the library stores
    return {ours: there[id(p)] for ours, p in model.named_parameters() if id(p) in there}


# --- weights by their names in the other model ----------------------------------------------------


def _state(model: SoftPromptModel) -> Iterator[tuple[str, Tensor]]:
    yield from _all("embeddings.words", model.backbone.get_input_embeddings())
    if isinstance(model.prompt, InputPrompt):
        yield "embeddings.prompt", model.prompt.embedding
    is_t5 = model.family.name == "t5"
    yield from _t5_parts(model) if is_t5 else _bert_parts(model)
    norms = (_t5_norms if is_t5 else _bert_norms)(model.backbone)
    for block in model.blocks():
        name = f"{block.name.stack}.layers.{block.name.layer}.{PARTS[block.name.part]}"
        vanished = block.output.in_features == 0
        if not (vanished and is_t5):
            yield from _all(f"{name}.norm", norms[block.name])
        if not vanished:
            yield from _block(f"{name}.inner", block, model)
        elif block.output.bias is not None:
            yield f"{name}.bias", block.output.bias
    yield from _readout(model)


def _all(name: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for key, tensor in module.named_parameters():
        yield f"{name}.{key}", tensor


def _block(name: str, block: Block, model: SoftPromptModel) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(block, AttentionBlock):
        names = ("up",) if len(block.up) == 1 else ("gate", "up")
        for part, linear in zip(names, block.up, strict=True):
            yield from _all(f"{name}.{part}", linear)
        yield from _all(f"{name}.down", block.down)
        return
    query, key, value = block.attention.projections()
    if block.attention.qk_dim:
        yield from _all(f"{name}.query", query)
        yield from _all(f"{name}.key", key)
    yield from _all(f"{name}.value", value)
    yield from _all(f"{name}.output", block.output)
    prompt = model.prompt
    if isinstance(prompt, PrefixPrompt) and block.name in prompt.names:
        i = prompt.names.index(block.name)
        if block.attention.qk_dim:
            yield f"{name}.prefix_key", prompt.keys[i].transpose(0, 1)
        yield f"{name}.prefix_value", prompt.values[i].transpose(0, 1)


def _bert_parts(model: SoftPromptModel) -> Iterator[tuple[str, Tensor]]:
    embeddings = _bert(model.backbone).embeddings
    yield "embeddings.positions.weight", embeddings.position_embeddings.weight
    yield "embeddings.types.weight", embeddings.token_type_embeddings.weight
    yield from _all("embeddings.norm", embeddings.LayerNorm)


def _bert(backbone: HFModel) -> HFModel:
    return getattr(backbone, backbone.base_model_prefix, backbone)


def _bert_norms(backbone: HFModel) -> dict[Sublayer, nn.Module]:
    norms: dict[Sublayer, nn.Module] = {}
    for i, layer in enumerate(_bert(backbone).encoder.layer):
        norms[Sublayer.of("encoder", i, "self")] = layer.attention.output.LayerNorm
        norms[Sublayer.of("encoder", i, "ffn")] = layer.output.LayerNorm
    return norms


def _t5_stacks(backbone: HFModel) -> dict[str, HFModel]:
    return {
        name: getattr(backbone, name) for name in ("encoder", "decoder") if hasattr(backbone, name)
    }


def _t5_parts(model: SoftPromptModel) -> Iterator[tuple[str, Tensor]]:
    for name, stack in _t5_stacks(model.backbone).items():
        table = stack.block[0].layer[0].SelfAttention.relative_attention_bias
        yield f"{name}.position_bias.table.weight", table.weight
        yield from _all(f"{name}.norm", stack.final_layer_norm)


def _t5_norms(backbone: HFModel) -> dict[Sublayer, nn.Module]:
    norms: dict[Sublayer, nn.Module] = {}
    for name, stack in _t5_stacks(backbone).items():
        for i, block in enumerate(stack.block):
            parts = ("self", "cross", "ffn") if len(block.layer) == 3 else ("self", "ffn")
            for part, layer in zip(parts, block.layer, strict=True):
                norms[Sublayer.of(name, i, part)] = layer.layer_norm
    return norms


def _readout(model: SoftPromptModel) -> Iterator[tuple[str, Tensor]]:
    readout, backbone = model.readout, model.backbone
    if isinstance(readout, HeadReadout):
        yield from _all("classifier", readout.linear)
    elif isinstance(readout, MlmReadout):
        yield from _mlm_head(backbone, readout.word_ids)
    else:
        yield "lm_head.weight", backbone.lm_head.weight


def _mlm_head(backbone: HFModel, word_ids: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The language model's head: of its output embeddings, the rows of the label words."""
    if hasattr(backbone, "cls"):
        transform, decoder = backbone.cls.predictions.transform, backbone.cls.predictions.decoder
        dense, norm = transform.dense, transform.LayerNorm
    else:
        head = backbone.lm_head
        dense, norm, decoder = head.dense, head.layer_norm, head.decoder
    yield from _all("transform.0", dense)
    yield from _all("transform.2", norm)
    yield "classifier.weight", decoder.weight[word_ids]
    yield "classifier.bias", decoder.bias[word_ids]
