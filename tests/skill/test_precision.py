"""bf16 answers: near fp32's, nobody else's weights touched, and refused where it means nothing."""

from pathlib import Path

import pytest
import torch

from skip_exp import Skill
from skip_exp.commands.answer import predict as main
from skip_exp.errors import SkipError
from skip_exp.skill.files import PRECISIONS, find_precision
from skip_exp.utils import machine
from tests.helpers.saved import save_tiny_skill

TEXTS = ["a warm film", "dull", "the plot is long and the film was not funny", "very good", "bad"]
CASES = [
    ("bert", "prefix", "head", "bias"),
    ("bert", "input", "mlm", "prompt_readout"),
    ("roberta", "input", "head", "bias"),
    ("modernbert", "prefix", "mlm", "bias"),
    ("t5", "prefix", "seq2seq", "prompt_readout"),
    ("t5_gated", "input", "seq2seq", "bias"),
]


def probabilities(skill: Skill) -> torch.Tensor:
    return torch.tensor([list(a["probabilities"].values()) for a in skill.predict(TEXTS)])


@pytest.mark.parametrize(("kind", "prompt", "readout", "train"), CASES)
def test_near_fp32_which_stays_as_it_was(
    tmp_path: Path, kind: str, prompt: str, readout: str, train: str
) -> None:
    folder = save_tiny_skill(tmp_path, kind, prompt, readout, train=train).folder
    skill = Skill.load(folder)
    expected = probabilities(skill)
    small = Skill.load(folder, precision="bf16")
    parts = (small.model.backbone, small.model.prompt)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in small.model.readout.parameters()} <= {torch.float32}
    found = probabilities(small)
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
    assert {p.dtype for p in skill.model.parameters()} == {torch.float32}
    assert torch.equal(probabilities(skill), expected)


def test_bf16_skills_share_what_fp32_ones_share(tmp_path: Path) -> None:
    folders = [save_tiny_skill(tmp_path, name=n, seed=i).folder for i, n in enumerate("ab")]
    models = [Skill.load(folder, precision="bf16").model for folder in folders]
    one, two = (dict(model.named_parameters()) for model in models)
    shared = {name for name in one if one[name] is two[name]}
    assert "backbone.embeddings.word_embeddings.weight" in shared
    assert not any(name.startswith(("prompt.", "readout.")) for name in shared)


@pytest.mark.parametrize(
    ("name", "flags", "able"),
    [
        ("AMD EPYC", "avx512_bf16", True),
        ("Intel Xeon", "avx512_bf16 amx_bf16", True),
        ("Intel Xeon", "avx512_bf16", False),
        ("AMD EPYC", "avx512f", False),
        ("", "", False),
    ],
)
def test_auto_is_what_the_processor_does_faster(
    monkeypatch: pytest.MonkeyPatch, name: str, flags: str, able: bool
) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda: {"model name": name, "flags": flags})
    assert find_precision("auto") is PRECISIONS["bf16" if able else "32-true"]


def test_exports_answer_in_bf16_but_are_written_in_fp32(tmp_path: Path) -> None:
    folder = save_tiny_skill(tmp_path).folder
    small, out = Skill.load(folder, precision="bf16"), tmp_path / "out"
    with pytest.raises(SkipError, match="written in fp32"):
        small.export(out)
    Skill.load(folder).export(out)
    alone = Skill.load(out, folder.parent / "backbone", precision="bf16")
    assert torch.equal(probabilities(alone), probabilities(small))


def test_other_precisions_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny_skill(tmp_path).folder
    with pytest.raises(SkipError, match=r"precision=fp8: "):
        Skill.load(folder, precision="fp8")
    assert main([str(folder), "bad", "--precision", "fp8"]) == 2
    assert "precision=fp8" in capsys.readouterr().err
    assert main([str(folder), "bad", "--precision", "bf16"]) == 0
