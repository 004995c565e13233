"""The script that made roberta_mini still makes a RoBERTa of its shape."""

import importlib.util
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from skip_exp.models import backbones, embedded
from tests.helpers.written import ROOT


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("adapt", ROOT / "tools/adapt_roberta_mini.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_texts_and_pairs_are_read_once_and_labels_never(tool: Any, tmp_path: Path) -> None:
    rows = [{"a": "one text", "b": "its pair", "label": 1}, {"a": "one text", "b": "another"}]
    (tmp_path / "task").mkdir()
    (tmp_path / "task/train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "more.txt").write_text("short\n a sentence of its own \nits pair\n" + 400 * "x")
    singles = {("one text",), ("its pair",), ("another",), ("a sentence of its own",)}
    found = tool.read_texts(tmp_path)
    assert set(found) == singles | {("one text", "its pair"), ("one text", "another")}
    assert len(found) == 6


def test_a_batch_holds_singles_or_pairs_of_like_length(tool: Any) -> None:
    texts = [(n * "x",) for n in range(1, 200)] + [("a", n * "x") for n in range(1, 50)]
    random.seed(0)
    random.shuffle(texts)
    batches = tool.batches_of(texts)
    assert all(4 <= len(batch) <= tool.BATCH for batch in batches)
    assert all(len(set(map(len, batch))) == 1 for batch in batches)
    singles = [[len(text[0]) for text in batch] for batch in batches if len(batch[0]) == 1]
    assert all(max(short) < min(long) for short, long in pairwise(singles))


@pytest.mark.slow
def test_it_makes_a_roberta_of_the_shipped_ones_shape(tool: Any, tmp_path: Path) -> None:
    pytest.importorskip(embedded.PACKAGE)
    random.seed(0)
    words = (ROOT / "README.md").read_text().split()
    texts = [" ".join(random.choices(words, k=5)) for _ in range(400)]
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/all.txt").write_text("\n".join(texts))
    tool.main([str(tmp_path / "texts"), str(tmp_path / "out"), "--minutes", "0.1"])

    shipped = backbones.WEIGHTS / "roberta_mini"
    found, ours = (json.loads((f / "config.json").read_text()) for f in (tmp_path / "out", shipped))
    assert found.pop("vocab_size") < ours.pop("vocab_size")  # too few texts for as many tokens
    for config in (found, ours):  # rates of dropout that was off; which library wrote it
        for key in [key for key in config if "dropout" in key or key == "transformers_version"]:
            del config[key]
    assert found == ours
    theirs, tokenizer = (AutoTokenizer.from_pretrained(f) for f in (shipped, tmp_path / "out"))
    assert tokenizer.all_special_tokens == theirs.all_special_tokens
    ids = tokenizer("Tunes a PROMPT", "and cuts")["input_ids"]
    assert ids == tokenizer("tunes a prompt", "and cuts")["input_ids"]
    assert [i for i in ids if i < 5] == [0, 2, 2, 2]

    folder = backbones.embedded_folder("minilm")
    teacher, its = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    made = AutoModel.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    before = tool.new_model(teacher, tokenizer, its).eval()
    several = [(text,) for text in texts[:50]]
    with torch.no_grad():
        wanted = tool.sentence_vectors(teacher, its, several)
        likeness = [
            torch.cosine_similarity(tool.sentence_vectors(model, tokenizer, several), wanted).mean()
            for model in (before, made)
        ]
    assert 0.1 < likeness[0] < likeness[1]  # it starts near MiniLM, and a few steps bring it nearer
