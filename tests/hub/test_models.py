"""Backbones in the layouts in which the hub has them: pre-training heads, a pooler, T5 v1.1."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from skip_exp.backbones.load import Backbone, load_backbone
from skip_exp.config.schema import conf_dir


def published(
    everything: Path, name: str, readout: str
) -> tuple[Backbone, dict[str, torch.Tensor]]:
    """A backbone of ``conf/backbone`` from its repository's files, and its weights as they are."""
    cfg = OmegaConf.load(conf_dir() / "backbone" / f"{name}.yaml")
    folder = everything / "models" / cfg.path
    b = load_backbone(name, str(folder), cfg.family, readout)
    return b, load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "readout", "prefix", "pad"),
    [
        ("bert_base", "head", "bert.", 0),
        ("bert_base", "mlm", "", 0),
        ("roberta_base", "head", "roberta.", 1),
        ("roberta_base", "mlm", "", 1),
        ("t5_base", "head", "", 0),
        ("t5_base", "seq2seq", "", 0),
        ("flan_t5_base", "seq2seq", "", 0),
    ],
)
def test_every_readout_finds_its_weights(
    everything: Path, tmp_path: Path, name: str, readout: str, prefix: str, pad: int
) -> None:
    b, stored = published(everything, name, readout)
    found = b.model.state_dict()
    same = {key for key, value in stored.items() if key.startswith(prefix)
            and key.removeprefix(prefix) in found
            and torch.equal(value, found[key.removeprefix(prefix)])}  # fmt: skip
    left_out = {"bert_base": ("pooler", "seq_relationship", "predictions"), "t5_base": ("decoder",)}
    unread = {key for key in stored if key not in same}
    assert all(any(part in key for part in left_out.get(name, ("lm_head",))) for key in unread)
    assert b.tokenizer.pad_token_id == b.model.config.pad_token_id == pad
    b.model.save_pretrained(tmp_path)
    b.tokenizer.save_pretrained(tmp_path)
    copy = load_backbone("copy", str(tmp_path), b.family.name, readout)
    assert copy.content_hash == b.content_hash


@pytest.mark.parametrize("name", ["modernbert_base", "ettin_17m"])
def test_modernberts_words_score_as_the_library_scores_them(everything: Path, name: str) -> None:
    """Also in texts longer than the window; its fused layers are stored under other names."""
    b, stored = published(everything, name, "mlm")
    assert "model.layers.1.attn.Wqkv.weight" in stored
    plain = AutoModelForMaskedLM.from_pretrained(b.path).eval()
    thetas = {kind: of["rope_theta"] for kind, of in plain.config.rope_parameters.items()}
    local = 10000.0 if name == "modernbert_base" else 160000.0
    assert thetas == {"full_attention": 160000.0, "sliding_attention": local}
    texts = ["a warm film", "sentence1 train 0: a not_entailment one " * 5]
    inputs = b.tokenizer(texts, padding=True, return_tensors="pt")
    assert b.tokenizer.pad_token_id == b.model.config.pad_token_id
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        mask = (1.0 - real[:, None, None].float()) * -1e4
        embeds = b.model.get_input_embeddings()(inputs["input_ids"])
        found = b.family.word_scores(b.model, b.family.encode(b.model, embeds, mask, None))
        torch.testing.assert_close(found[real], plain(**inputs).logits[real], atol=1e-5, rtol=1e-4)


def test_flan_has_an_output_matrix_of_its_own_and_no_scale(everything: Path) -> None:
    b, stored = published(everything, "flan_t5_base", "seq2seq")
    assert not torch.equal(stored["lm_head.weight"], stored["shared.weight"])
    assert torch.equal(b.model.lm_head.weight, stored["lm_head.weight"])
    assert b.model.config.scale_decoder_outputs is False
    plain, _ = published(everything, "t5_base", "seq2seq")
    assert plain.model.config.scale_decoder_outputs is True


def test_robertas_bytes_need_no_unknown_token(everything: Path) -> None:
    b, _ = published(everything, "roberta_base", "head")
    ids = b.tokenizer("Ünïcode — 文")["input_ids"]
    assert b.tokenizer.unk_token_id not in ids[1:-1]
    assert b.max_positions == 512
