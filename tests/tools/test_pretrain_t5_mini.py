"""The script that made t5_mini still makes a T5 of its shape."""

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, T5ForConditionalGeneration

from skip_exp.models import backbones, embedded
from tests.helpers.written import ROOT


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("pretrain", ROOT / "tools/pretrain_t5_mini.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_span_corruption_loses_nothing(tool: Any) -> None:
    random.seed(0)
    for _ in range(50):
        ids = [random.randrange(200, 9000) for _ in range(64)]
        source, target = tool.corrupted(ids)
        assert source.pop() == target.pop() == tool.EOS
        spans: dict[int, list[int]] = {}
        for token in target:
            if token < 200:
                spans[token] = []
                last = spans[token]
            else:
                last.append(token)
        assert [t for token in source for t in spans.get(token, [token])] == ids
        assert list(spans) == list(range(5, 5 + len(spans)))


def test_a_stream_gives_every_chunk_once_before_any_again(tool: Any) -> None:
    torch.manual_seed(0)
    stream = tool.Stream(torch.arange(6).view(6, 1))
    assert sorted(torch.cat([stream.take(3), stream.take(3)]).flatten().tolist()) == list(range(6))


@pytest.mark.slow
def test_it_makes_a_t5_of_the_embedded_ones_shape(tool: Any, tmp_path: Path) -> None:
    pytest.importorskip(embedded.PACKAGE)
    random.seed(0)
    words = (ROOT / "README.md").read_text().split()
    (tmp_path / "corpus").mkdir()
    docs = [" ".join(random.choices(words, k=80)) for _ in range(40)]
    (tmp_path / "corpus/all.txt").write_text("\n\n".join(docs))
    for task in tool.WORDS:
        (tmp_path / "tasks" / task).mkdir(parents=True)
        keys = ["sentence"] if task in ("sst2", "cola") else ["sentence1", "sentence2"]
        lines = [
            dict.fromkeys(keys, f"{word} it is") | {"label": i % 2, "idx": i}
            for i, word in enumerate(words[:20])
        ]
        (tmp_path / "tasks" / task / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    folders = [str(tmp_path / name) for name in ("corpus", "tasks", "out")]
    tool.main([*folders, "--minutes", "0.03"])
    tool.main([*folders, "--minutes", "0.03", "--second"])

    made = T5ForConditionalGeneration.from_pretrained(tmp_path / "out").config.to_dict()
    folder = backbones.embedded_folder("t5_mini")
    shipped = T5ForConditionalGeneration.from_pretrained(folder).config.to_dict()
    for key in ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads"):
        assert made[key] == shipped[key]
    tokenizer, ours = (AutoTokenizer.from_pretrained(f) for f in (tmp_path / "out", folder))
    assert tokenizer("a film", "a mess")["input_ids"][-1] == tool.EOS
    assert tokenizer.all_special_tokens == ours.all_special_tokens
    rows = tool.supervised(tokenizer, tmp_path / "tasks")
    assert len(rows) == 4 * 18  # idx 9 and 19 of each task are never seen
