"""An ONNX export without skip_exp: onnxruntime and tokenizers are enough."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from skip_exp import OnnxSkill, Skill
from skip_exp.skill.export.folder import export
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
