"""A content hash is of the function: whatever changes an answer or the training changes it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers
from transformers import AutoTokenizer

from skip_exp.backbones import embedded
from skip_exp.backbones.load import Backbone, _load, content_hash, load_backbone
from tests.helpers.saved import save_backbone

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
Edit = Callable[[dict[str, Any]], object]


def loaded(folder: Path, kind: str = "bert", readout: str = "head") -> Backbone:
    return load_backbone("b", str(folder), kind.partition("_")[0], readout)


def edit(folder: Path, name: str, change: Edit) -> Path:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    return folder


def lower(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = json.loads(normalizers.Lowercase().__getstate__())


def swap_words(tokenizer: dict[str, Any]) -> None:
    vocab = tokenizer["model"]["vocab"]
    vocab["good"], vocab["bad"] = vocab["bad"], vocab["good"]


EDITS: dict[str, tuple[str, str, Edit]] = {
    "lower-casing": ("bert", TOKENIZER, lower),
    "what a word's id is": ("bert", TOKENIZER, swap_words),
    "how texts are split": (
        "bert",
        TOKENIZER,
        lambda t: t.update(pre_tokenizer={"type": "Whitespace"}),
    ),
    "special tokens around a text": (
        "bert",
        TOKENIZER,
        lambda t: t["post_processor"]["single"].pop(),
    ),
    "which token pads": ("bert", TOKENIZER_CONFIG, lambda t: t.update(pad_token="[UNK]")),
    "which end is cut off": ("bert", TOKENIZER_CONFIG, lambda t: t.update(truncation_side="left")),
    "whether there are token types": (
        "bert",
        TOKENIZER_CONFIG,
        lambda t: t.update(model_input_names=["input_ids", "attention_mask"]),
    ),
    "hidden dropout": ("bert", CONFIG, lambda c: c.update(hidden_dropout_prob=0.3)),
    "attention dropout": ("roberta", CONFIG, lambda c: c.update(attention_probs_dropout_prob=0.3)),
    "T5's dropout": ("t5", CONFIG, lambda c: c.update(dropout_rate=0.3)),
    "the scale of T5's logits": ("t5", CONFIG, lambda c: c.update(scale_decoder_outputs=False)),
    "T5's activation": ("t5", CONFIG, lambda c: c.update(dense_act_fn="silu")),
    "a setting that nobody knows": ("bert", CONFIG, lambda c: c.update(later=2)),
    "the window": ("modernbert", CONFIG, lambda c: c.update(local_attention=4)),
    "the rotation": (
        "modernbert",
        CONFIG,
        lambda c: c["rope_parameters"]["full_attention"].update(rope_theta=100.0),
    ),
    "the activation": ("bert", CONFIG, lambda c: c.update(hidden_act="relu")),
    "the epsilon": ("bert", CONFIG, lambda c: c.update(layer_norm_eps=1e-3)),
}


@pytest.mark.parametrize("what", EDITS)
def test_what_changes_the_function_changes_the_hash(tmp_path: Path, what: str) -> None:
    kind, name, change = EDITS[what]
    folder = save_backbone(tmp_path / "one", kind)
    other = edit(shutil.copytree(folder, tmp_path / "other"), name, change)
    readout = "seq2seq" if kind == "t5" else "head"
    hashes = [loaded(path, kind, readout).content_hash for path in (folder, other)]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    ("path", "family", "readout"),
    [
        ("embedded:minilm", "bert", "head"),
        ("embedded:roberta_mini", "roberta", "head"),
        ("embedded:t5_mini", "t5", "seq2seq"),
        ("bert", "bert", "mlm"),
        ("roberta", "roberta", "mlm"),
        ("modernbert", "modernbert", "mlm"),
        ("t5_gated", "t5", "seq2seq"),
    ],
)
def test_a_copy_that_the_library_saved_has_the_same_hash(
    tmp_path: Path, path: str, family: str, readout: str
) -> None:
    if path == "embedded:minilm":
        pytest.importorskip(embedded.PACKAGE)
    if not path.startswith("embedded"):
        path = str(save_backbone(tmp_path / path, path))
    b = load_backbone("one", path, family, readout)
    model, _ = _load(path, family, readout)
    model.save_pretrained(tmp_path / "copy")
    b.tokenizer.save_pretrained(tmp_path / "copy")
    assert loaded(tmp_path / "copy", family, readout).content_hash == b.content_hash


def test_what_says_nothing_of_the_function_leaves_the_hash(tmp_path: Path) -> None:
    """Use of the tokenizer, and settings that are off: later releases of a library add such."""
    b = loaded(save_backbone(tmp_path, "bert"))
    b.tokenizer(["a film", "dull"], truncation=True, max_length=2, padding=True)
    assert content_hash(b.model, b.tokenizer) == b.content_hash
    edit(tmp_path, TOKENIZER, lambda t: t["added_tokens"][0].update(lstrip=False))
    edit(tmp_path, CONFIG, lambda c: c.update(transformers_version="4.0", later=False))
    assert loaded(tmp_path).content_hash == b.content_hash
    edit(tmp_path, TOKENIZER_CONFIG, lambda t: t.update(padding_side="left", model_max_length=7))
    assert content_hash(b.model, AutoTokenizer.from_pretrained(tmp_path)) == b.content_hash
