"""``skip-exp export --vocabulary``: every format answers as the skill, with fewer tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from skip_exp import OnnxSkill, Skill, results
from skip_exp.commands.export import main
from skip_exp.errors import SkipError
from tests.helpers.saved import Saved, save_tiny_skill, tell

TEXTS = ["the film was warm", "the plot was dull and long", "w12 w13"]
USED = ["the", "film", "was", "warm", "plot", "dull", "and", "long", "w12", "w13"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "yes", *USED, "a"]  # of the BERT


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """A finished job's skill, its result and its train rows, whose texts are TEXTS."""
    made = save_tiny_skill(tmp_path)
    rows = [f"{TEXTS[i % 3]},{i % 2}" for i in range(24)]
    (tmp_path / "train.csv").write_text("\n".join(["sentence,label", *rows]))
    (tmp_path / "validation.csv").write_text("sentence,label\ngood,1\nbad,0\n")
    files = {split: str(tmp_path / f"{split}.csv") for split in ("train", "validation")}
    task = {"name": "toy", "text": ["sentence"], "labels": made.about.labels, "files": files}
    params = {"block_pruned": 0.5, "all_pruned": 0.2, "all_before": 12_000, "all_after": 9_600}
    result: Any = {"skill": "skill", "config": {"task": task | {"metrics": ["accuracy"]}}}
    results.write(tmp_path, results.Result(**result, params=params, metric={}, seed=1))
    tell(made, data=f"local:{tmp_path}")
    return made


def exported(saved: Saved, *options: str) -> Path:
    out = saved.folder.parent / "out"
    assert main([str(saved.folder), str(out), *options]) == 0
    return out


def asked(out: Path, texts: list[Any]) -> torch.Tensor:
    """What transformers answers from an hf export: probabilities in label order."""
    rows = [{"text": t[0], "text_pair": t[1]} if isinstance(t, list) else t for t in texts]
    answers = pipeline("text-classification", model=str(out))(rows, top_k=None)
    by_label = [{each["label"]: each["score"] for each in answer} for answer in answers]
    return torch.tensor([[row["negative"], row["positive"]] for row in by_label])


def probabilities(answers: Any) -> torch.Tensor:
    return torch.tensor([list(answer["probabilities"].values()) for answer in answers])


def test_huggingface(saved: Saved, capsys: Any) -> None:
    out = exported(saved, "--vocabulary", "train")
    assert capsys.readouterr().out.startswith("vocabulary: 18 of 50 tokens\nwritten: ")
    model = AutoModelForSequenceClassification.from_pretrained(out)
    config = json.loads((out / "config.json").read_text())
    assert config["backbone"]["vocab_size"] == 18 == len(model.get_input_embeddings().weight)
    assert config["skill"]["vocabulary"] == {"kept": 18, "of": 50, "texts": "train"}
    skill = Skill.load(saved.folder)
    torch.testing.assert_close(asked(out, TEXTS), probabilities(skill.predict(TEXTS)))
    with pytest.raises(SkipError):  # the skill has all words, so it would answer otherwise
        Skill.load(out)
    assert skill.tokenizer.vocab_size == 50  # the shared one is as it was
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert set(tokenizer.get_vocab()) == set(WORDS)
    assert tokenizer("bad film")["input_ids"] == [2, 1, 7, 3]
    card = ModelCard.load(out / "README.md")
    assert "18 of 50 tokens" in card.content


def test_python_has_the_options_of_the_command(saved: Saved, tmp_path: Path) -> None:
    skill = Skill.load(saved.folder)
    out = skill.with_vocabulary(TEXTS).export(tmp_path / "texts", license="mit")
    config = json.loads((out / "config.json").read_text())
    assert config["skill"]["vocabulary"] == {"kept": 18, "of": 50, "texts": "texts"}
    assert ModelCard.load(out / "README.md").data.license == "mit"


@pytest.mark.slow
def test_onnx(onnx_packages: None, saved: Saved) -> None:
    out = exported(saved, "--format", "onnx", "--vocabulary", "train")
    found, expected = OnnxSkill.load(out).predict(TEXTS), Skill.load(saved.folder).predict(TEXTS)
    torch.testing.assert_close(probabilities(found), probabilities(expected), atol=1e-5, rtol=0)
    vocabulary = json.loads((out / "config.json").read_text())["vocabulary"]
    assert vocabulary == {"kept": 18, "of": 50, "texts": "train"}


@pytest.mark.parametrize(
    ("kind", "readout", "text"),
    [
        ("roberta", "mlm", ("a", "b")),
        ("bert", "mlm", ("a",)),
        ("modernbert", "mlm", ("a",)),
        ("t5", "head", ("a",)),
    ],
)
def test_texts_of_a_file(tmp_path: Path, kind: str, readout: str, text: tuple[str, ...]) -> None:
    """Pairs by a TAB, as ``predict`` reads them; a label word is read again by whoever loads it."""
    saved = save_tiny_skill(tmp_path, kind, "input", readout, text=text)
    examples: list[Any] = [each if len(text) == 1 else [each, "good"] for each in TEXTS]
    lines = ["\t".join(each) if isinstance(each, list) else each for each in examples]
    file = tmp_path / ("mine.csv" if kind == "t5" else "mine.txt")
    head = ["other,a"] if kind == "t5" else []
    content = "\n".join([*head, *(f"funny,{each}" if head else each for each in lines)])
    file.write_text(content)
    out = exported(saved, "--vocabulary", str(file))
    expected = probabilities(Skill.load(saved.folder).predict(examples))
    torch.testing.assert_close(asked(out, examples), expected, atol=1e-6, rtol=0)
    kept = {*USED, "no", "yes", *(["good"] if len(text) == 2 else [])}
    vocabulary = AutoTokenizer.from_pretrained(out).get_vocab()
    assert kept < set(vocabulary) and len(vocabulary) < 25
    assert "funny" not in vocabulary  # a table's other columns are not read
    config = json.loads((out / "config.json").read_text())
    assert config["skill"]["vocabulary"]["texts"] == file.name  # not where it lies


# --- refusals -------------------------------------------------------------------------------------


def test_refusals_name_the_option_and_write_nothing(
    saved: Saved, tmp_path: Path, capsys: Any
) -> None:
    """No such file, no texts, a pair for a task of one text; then no train rows and no result."""

    def refusal(vocabulary: object) -> str:
        out = saved.folder.parent / "out"
        assert main([str(saved.folder), str(out), "--vocabulary", str(vocabulary)]) == 2
        told = capsys.readouterr()
        assert told.out == "" and told.err.startswith("error: ") and told.err.count("\n") == 1
        assert not out.exists()
        return told.err.removeprefix("error: ")

    mine = tmp_path / "mine.txt"
    assert refusal(mine).startswith(f"{mine}: ")
    mine.write_text("\n")
    assert refusal(mine).startswith("--vocabulary mine.txt: ")
    mine.write_text("a film\na film\tand another\n")
    assert refusal(mine).startswith(f"line 2 of {mine}: ")
    result = json.loads((tmp_path / "result.json").read_text())
    other = result | {"data_hash": "of other rows"}
    (tmp_path / "result.json").write_text(json.dumps(other))
    assert "have changed" in refusal("train")
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "train.csv").rename(tmp_path / "moved.csv")
    told = refusal("train")
    assert told.startswith("--vocabulary train: ") and "train.csv" in told
    (tmp_path / "result.json").unlink()
    assert refusal("train").startswith("--vocabulary train: no result.json ")
