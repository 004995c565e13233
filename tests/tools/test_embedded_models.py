"""The scripts that made the embedded models still make models of their shape."""

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, T5ForConditionalGeneration

from skip_exp.backbones import embedded
from skip_exp.skill.files import read_skill
from skip_exp.skill.skill import Skill
from tests.helpers.written import ROOT


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_texts_and_pairs_are_read_once_and_labels_never(tmp_path: Path) -> None:
    rows = [{"a": "one text", "b": "its pair", "label": 1}, {"a": "one text", "b": "another"}]
    (tmp_path / "task").mkdir()
    (tmp_path / "task/train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "more.txt").write_text("short\n a sentence of its own \nits pair\n" + 400 * "x")
    found = tool("adapt_roberta_mini").read_texts(tmp_path)
    singles = {("one text",), ("its pair",), ("another",), ("a sentence of its own",)}
    assert set(found) == singles | {("one text", "its pair"), ("one text", "another")}
    assert len(found) == 6


def test_span_corruption_loses_nothing() -> None:
    random.seed(0)
    module = tool("pretrain_t5_mini")
    for _ in range(50):
        ids = [random.randrange(200, 9000) for _ in range(64)]
        source, target = module.corrupted(ids)
        assert source.pop() == target.pop() == module.EOS
        spans: dict[int, list[int]] = {}
        for token in target:
            if token < 200:
                last = spans[token] = []
            else:
                last.append(token)
        assert [t for token in source for t in spans.get(token, [token])] == ids
        assert list(spans) == list(range(5, 5 + len(spans)))


def test_pairs_of_a_premise_share_a_split_and_scored_premises_are_left_out(tmp_path: Path) -> None:
    module = tool("train_nli_skill")
    scored = module.scored_premises()
    assert 400 < len(scored) < 700
    taken = [f"premise {i}" for i in range(300)]
    pairs = [(premise, i) for premise in [*taken, *sorted(scored)] for i in range(3)]
    rows = [{"premise": a, "hypothesis": f"{b}", "label": b, "idx": 0} for a, b in pairs]
    paths = module.write_rows(rows, scored, tmp_path)
    found = {
        split: [json.loads(line) for line in Path(path).read_text().splitlines()]
        for split, path in paths.items()
    }
    premises = {split: {row["premise"] for row in each} for split, each in found.items()}
    assert sorted(name for each in premises.values() for name in each) == sorted(taken)
    assert all(len(found[split]) == 3 * len(premises[split]) for split in found)
    assert len(premises["train"]) > 250 and premises["select"] and premises["validation"]


@pytest.mark.slow
def test_roberta_mini(tmp_path: Path) -> None:
    pytest.importorskip(embedded.PACKAGE)
    random.seed(0)
    words = (ROOT / "README.md").read_text().split()
    (tmp_path / "texts").mkdir()
    texts = [" ".join(random.choices(words, k=5)) for _ in range(400)]
    (tmp_path / "texts/all.txt").write_text("\n".join(texts))
    folders = [str(tmp_path / name) for name in ("texts", "out")]
    tool("adapt_roberta_mini").main([*folders, "--minutes", "0.1"])
    shipped = embedded.WEIGHTS / "roberta_mini"
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


@pytest.mark.slow
def test_t5_mini(tmp_path: Path) -> None:
    pytest.importorskip(embedded.PACKAGE)
    module = tool("pretrain_t5_mini")
    random.seed(0)
    words = (ROOT / "README.md").read_text().split()
    (tmp_path / "corpus").mkdir()
    docs = [" ".join(random.choices(words, k=80)) for _ in range(40)]
    (tmp_path / "corpus/all.txt").write_text("\n\n".join(docs))
    for task in module.WORDS:
        (tmp_path / "tasks" / task).mkdir(parents=True)
        keys = ["sentence"] if task in ("sst2", "cola") else ["sentence1", "sentence2"]
        lines = [
            dict.fromkeys(keys, f"{word} it is") | {"label": i % 2, "idx": i}
            for i, word in enumerate(words[:20])
        ]
        (tmp_path / "tasks" / task / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    folders = [str(tmp_path / name) for name in ("corpus", "tasks", "out")]
    module.main([*folders, "--minutes", "0.03"])
    module.main([*folders, "--minutes", "0.03", "--second"])
    made = T5ForConditionalGeneration.from_pretrained(tmp_path / "out").config.to_dict()
    folder = embedded.find_embedded_folder("t5_mini")
    shipped = T5ForConditionalGeneration.from_pretrained(folder).config.to_dict()
    for key in ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads"):
        assert made[key] == shipped[key]
    tokenizer, ours = (AutoTokenizer.from_pretrained(f) for f in (tmp_path / "out", folder))
    assert tokenizer("a film", "a mess")["input_ids"][-1] == module.EOS
    assert tokenizer.all_special_tokens == ours.all_special_tokens
    rows = module.supervised(tokenizer, tmp_path / "tasks")
    assert len(rows) == 4 * 18  # idx 9 and 19 of each task are never seen


@pytest.mark.slow
def test_the_nli_skill(tmp_path: Path) -> None:
    pytest.importorskip(embedded.PACKAGE)
    rows = [
        {"premise": f"there are {i} films", "hypothesis": f"{i + j} films", "label": j}
        for i in range(300)
        for j in range(3)
    ]
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = [str(tmp_path / name) for name in ("pool.jsonl", "out")]
    small = ["tune.epochs=1", "tune.min_steps=0", "attribution=magnitude"]
    tool("train_nli_skill").main([*given, "--ship", str(tmp_path / "skill"), *small])
    found, ours = (read_skill(f)[0] for f in (tmp_path / "skill", embedded.SKILLS / "nli-minilm"))
    assert found == ours
    assert (tmp_path / "skill/skill.safetensors").stat().st_size < 2**20
    assert set(Skill.load(tmp_path / "skill").predict([("a film", "a film")])[0]) >= {"label"}
