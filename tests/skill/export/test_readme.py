"""What an export says of itself, and what who has no skip_exp makes of it."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from skip_exp import OnnxSkill, Skill
from skip_exp.skill.export.folder import export
from skip_exp.skill.export.onnx.readme import readme
from skip_exp.skill.record import ScoreRecord
from tests.helpers.saved import save_tiny_skill
from tests.helpers.written import ROOT

EXAMPLE = ROOT / "examples/onnxruntime_only.py"
ABSENT = ("skip_exp", "torch", "transformers", "pandas", "huggingface_hub")


def alone(folder: Path, *texts: str) -> list[dict]:
    """What the example prints, in a process that cannot import what is ABSENT."""
    code = f"import runpy, sys; sys.modules |= dict.fromkeys({ABSENT}); sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-I", "-c", code, str(EXAMPLE), str(folder), *texts]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def same(found: list[dict], expected: list) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one["label"] == other["label"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)


def test_onnxruntime_and_tokenizers_are_enough(onnx_folder: Path) -> None:
    texts = ["a warm film", "", "the plot " * 30, "dull"]
    same(alone(onnx_folder, *texts), OnnxSkill.load(onnx_folder).predict(texts))


PAIRS = [("a warm film", "dull " * 40), ("w12 " * 30, "very good"), ("bad", "")]
FLAT = [text for pair in PAIRS for text in pair]


def test_so_they_are_for_pairs(onnx_folder: Path, tmp_path: Path) -> None:
    out = shutil.copytree(onnx_folder, tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"text": ["first", "second"]}))
    same(alone(out, *FLAT), OnnxSkill.load(out).predict(PAIRS))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["roberta", "t5"])
def test_so_they_are_for_models_without_token_types(tmp_path: Path, kind: str) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    readout = "seq2seq" if kind == "t5" else "head"
    saved = save_tiny_skill(tmp_path, kind, readout=readout, text=("first", "second"))
    export(Skill.load(saved.folder), tmp_path / "out", "onnx")
    same(alone(tmp_path / "out", *FLAT), OnnxSkill.load(tmp_path / "out").predict(PAIRS))


# --- README.md ----------------------------------------------------------------------------------


@pytest.fixture
def skill(tmp_path: Path) -> Skill:
    return Skill.load(save_tiny_skill(tmp_path).folder)


def test_every_export_has_one(skill: Skill, onnx_folder: Path, tmp_path: Path) -> None:
    export(skill, tmp_path / "hf", "hf")
    folders = {"hf": tmp_path / "hf", "onnx": onnx_folder}
    texts = {name: (folder / "README.md").read_text() for name, folder in folders.items()}
    shared = ("# toy on bert, cut", "## What was cut", "| `encoder.0.ffn` | 4 |  |", "## Limits")
    for text in texts.values():
        assert all(part in text for part in shared)
        assert "`negative`" in text or "| 0 | negative |\n| 1 | positive |" in text
    assert "8-bit" in texts["onnx"] and "8-bit" not in texts["hf"]
    assert texts["hf"].startswith("---\n") and "---" not in texts["onnx"].splitlines()


def test_its_code_loads_the_folder(onnx_folder: Path) -> None:
    text = (onnx_folder / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, place := {"FOLDER": str(onnx_folder)})
    assert place["skill"].about.task == "toy"


def test_how_a_text_becomes_input(skill: Skill) -> None:
    text = readme(skill)
    assert "One text: `sentence`" in text and "at most 24 (`max_length`)" in text
    assert "padded on the right" in text
    assert "with the id 0\n   (`[PAD]`" in text and "`token_type_ids` are the tokenizer's" in text
    assert "logits [batch, 2]" in text and "OnnxSkill.load(FOLDER)" in text


def test_of_a_pair_and_of_a_model_without_token_types(tmp_path: Path) -> None:
    saved = save_tiny_skill(tmp_path, "roberta", text=("question", "{title}: {passage}"))
    text = readme(Skill.load(saved.folder))
    assert "Two texts: `question` and `{title}: {passage}`" in text
    assert "the longer of its texts loses a token" in text
    assert "with the id 1\n   (`<pad>`" in text and "token_type_ids" not in text
    assert 'predict([["one text", "another"]])' in text


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("sample", "**Tuned on generated sample data: its scores prove nothing.**"),
        ("local:/somewhere/secret", "Data: local files."),
        ("hub:nyu-mll/glue/sst2", "Data: nyu-mll/glue."),
    ],
)
def test_where_the_data_came_from_and_no_folder(skill: Skill, data: str, told: str) -> None:
    about = skill.about.changed(scores=ScoreRecord(metric="accuracy", validation=0.5, data=data))
    text = readme(replace(skill, about=about))
    assert told in text and "secret" not in text


def test_licence_and_label_of_the_backbone(skill: Skill) -> None:
    there = {"name": "roberta_mini", "path": "embedded:roberta_mini"}
    about = skill.about.changed(backbone=skill.about.backbone.model_copy(update=there))
    text = readme(replace(skill, about=about))
    assert "licence apache-2.0" in text and "distilled from MiniLM" in text
