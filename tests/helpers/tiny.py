"""Tiny random-weight models of every family, quick enough to cut by the hundred."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    ModernBertConfig,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_utils import PreTrainedModel

from skip_exp.models.families import FAMILIES
from skip_exp.models.readouts import HeadReadout, MlmReadout, Readout, Seq2SeqReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.build import new_prompt

VOCAB, HIDDEN, LAYERS, HEADS = 50, 24, 2, 3
ENCODERS = ("bert", "roberta", "modernbert")  # XLM-R is a RoBERTa to most tests
KINDS = (*ENCODERS, "t5", "t5_gated")
TYPED = ("bert",)  # have token types
READOUT = {kind: "seq2seq" if kind.startswith("t5") else "head" for kind in KINDS}  # the usual


def tiny_backbone(kind: str, seed: int = 0, vocab: int = VOCAB) -> PreTrainedModel:
    """An untouched Hugging Face model; RoBERTa with its real pad id 1; no dropout differences."""
    torch.manual_seed(seed)
    if kind == "modernbert":
        return _noisy(AutoModelForMaskedLM.from_config(tiny_modernbert(vocab)).eval())
    if not kind.startswith("t5"):
        is_roberta = kind.endswith("roberta")
        config = AutoConfig.for_model(
            kind,
            vocab_size=vocab,
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=20,
            max_position_embeddings=64,
            pad_token_id=1 if is_roberta else 0,
            type_vocab_size=1 if is_roberta else 2,
            initializer_range=0.2,
        )
        return _noisy(AutoModelForMaskedLM.from_config(config).eval())
    config = T5Config(
        vocab_size=vocab,
        d_model=HIDDEN,
        d_kv=8,
        d_ff=20,
        num_layers=LAYERS,
        num_decoder_layers=LAYERS,
        num_heads=HEADS,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
        feed_forward_proj="gated-gelu" if kind == "t5_gated" else "relu",
        decoder_start_token_id=0,
    )
    return _noisy(T5ForConditionalGeneration(config).eval())


def tiny_modernbert(vocab: int = VOCAB, **more: Any) -> ModernBertConfig:
    """A global and a local layer, which sees 3 tokens to each side: most texts are longer."""
    settings: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 20,
        "max_position_embeddings": 64,
        "local_attention": 6,
        "initializer_range": 0.2,
    }
    ids = {"pad": 0, "cls": 2, "bos": 2, "sep": 3, "eos": 3}
    settings |= {f"{name}_token_id": i for name, i in ids.items()}
    return ModernBertConfig(vocab_size=vocab, **settings | more)


def _noisy(model: PreTrainedModel) -> PreTrainedModel:
    """Biases and norms are initialised to constants: make them differ, so that errors show."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "relative_attention_bias" in name:
                parameter.normal_()
    return model


def tiny_readout(kind: str, readout: str, labels: int = 3) -> Readout:
    if readout == "head":
        return HeadReadout(HIDDEN, labels)
    if readout == "mlm":
        return MlmReadout(torch.arange(5, 5 + labels), mask_id=4)
    return Seq2SeqReadout([[7], [8, 9], [10, 11]][:labels], start_id=0)


def tiny_model(
    kind: str = "bert",
    prompt: str = "prefix",
    readout: str = "head",
    *,
    seed: int = 0,
    labels: int = 3,
    length: int = 4,
    vocab: int = VOCAB,
) -> SoftPromptModel:
    family = FAMILIES[kind.split("_")[0]]
    backbone = family.prepare(tiny_backbone(kind, seed, vocab))
    ids = torch.randint(12, VOCAB, (length,), generator=torch.Generator().manual_seed(seed))
    soft = new_prompt(prompt, backbone, family, ids)
    torch.manual_seed(seed + 1)
    head = tiny_readout(kind, readout, labels)
    if readout == "head":
        torch.nn.init.normal_(head.linear.weight, std=0.5)
    return SoftPromptModel(backbone, family, soft, head).eval()


def tiny_batch(
    kind: str = "bert", *, rows: int = 4, seed: int = 0, labels: int = 3
) -> dict[str, Tensor]:
    """Right-padded random texts of different lengths; token types for the TYPED."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 11, (rows,), generator=generator)
    width = int(lengths.max())
    mask = (torch.arange(width) < lengths[:, None]).long()
    pad = 1 if kind.endswith("roberta") else 0
    ids = torch.randint(12, VOCAB, (rows, width), generator=generator)
    batch = {
        "input_ids": torch.where(mask.bool(), ids, pad),
        "attention_mask": mask,
        "labels": torch.randint(0, labels, (rows,), generator=generator),
    }
    if kind in TYPED:
        batch["token_type_ids"] = (torch.arange(width) >= 3).long().expand(rows, -1) * mask
    return batch


def tiny_inputs(kind: str = "bert", **how: int) -> dict[str, Tensor]:
    """A :func:`tiny_batch` without its labels."""
    return {name: x for name, x in tiny_batch(kind, **how).items() if name != "labels"}
