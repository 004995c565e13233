"""A skill that plain transformers loads: the same logits where skip_exp cannot be imported."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from skip_exp import Skill, SkipForSequenceClassification
from skip_exp.backbones.load import load_backbone
from skip_exp.commands.export import main
from skip_exp.errors import SkipError
from skip_exp.models.prompts import NoPrompt
from skip_exp.models.readouts import HeadReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut
from skip_exp.skill.export.huggingface import to_huggingface
from tests.helpers.saved import Saved, save_tiny_skill
from tests.helpers.tiny import ENCODERS, KINDS, READOUT, tiny_batch, tiny_model
from tests.models.test_exactness import case as random_case

PLAIN = Path(__file__).parents[2] / "helpers" / "plain.py"
CASES = {kind: (kind, "prefix", READOUT[kind]) for kind in KINDS} | {
    "roberta": ("roberta", "input", "mlm"),
    "modernbert mlm": ("modernbert", "input", "mlm"),
    "t5 encoder": ("t5", "prefix", "head"),
    "t5_gated": ("t5_gated", "input", "seq2seq"),
}
LABELS = ["a", "b", "c"]


def made(root: Path, case: str, **more: Any) -> Saved:
    kind, prompt, readout = CASES[case]
    return save_tiny_skill(root, kind, prompt, readout, **more)


def exported(saved: Saved, out: Path) -> Path:
    assert main([str(saved.folder), str(out), "--format", "hf"]) == 0
    return out


def test_the_tokenizer_pads_where_the_model_expects_it(tmp_path: Path) -> None:
    skill = Skill.load(made(tmp_path, "bert").folder)
    skill.tokenizer.padding_side = "left"  # some checkpoints of the hub have it
    out = skill.export(tmp_path / "hf")
    assert AutoTokenizer.from_pretrained(out).padding_side == "right"
    assert skill.tokenizer.padding_side == "left"


def inputs(kind: str, **more: int) -> dict[str, torch.Tensor]:
    return {name: x for name, x in tiny_batch(kind, **more).items() if name != "labels"}


def plainly(work: Path, *checks: str) -> dict[str, dict[str, Any]]:
    """What a process without skip_exp finds in every folder of ``work``; see ``helpers/plain``."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-I", str(PLAIN), str(work), *checks]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return {path.parent.name: torch.load(path) for path in work.glob("*/found.pt")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Every case exported and loaded without skip_exp; ``expected.pt`` is what the skill says."""
    work = tmp_path_factory.mktemp("alone")
    for case, (kind, *_) in CASES.items():
        load_backbone.cache_clear()
        saved = made(work / case, case, train="lora")
        exported(saved, work / case / "out")
        torch.save(batch := inputs(kind), work / case / "batch.pt")
        skill = Skill.load(saved.folder)
        with torch.no_grad():
            torch.save(skill.model(**batch), work / case / "expected.pt")
        told = skill.predict(["a warm film", "dull"])
        (work / case / "answers.json").write_text(json.dumps(told))
    return work, plainly(work, "again", "answer")


@pytest.mark.parametrize("case", CASES)
def test_plain_transformers_answers_as_the_skill(alone: Any, case: str) -> None:
    """The logits, a pipeline's answers, and the folder saved again."""
    work, found = alone
    logits = torch.load(work / case / "expected.pt")
    torch.testing.assert_close(found[case]["logits"], logits, atol=1e-6, rtol=1e-6)
    expected = json.loads((work / case / "answers.json").read_text())
    for ours, theirs in zip(expected, found[case]["answer"], strict=True):
        assert theirs[0]["label"] == ours["label"]
        probabilities = {each["label"]: each["score"] for each in theirs}
        assert probabilities == pytest.approx(ours["probabilities"], abs=1e-5)
    files = {path.name for path in (work / case / "out").iterdir()}
    own = {"README.md", "skill.json", "skill.safetensors"}  # not written by the library
    assert found[case]["again"] == dict.fromkeys(files - own, True)
    assert {"config.json", "model.safetensors", "modeling_skip.py"} < files - own


@pytest.mark.slow
def test_it_does_all_that_the_librarys_own_models_do(alone: Any) -> None:
    """Halves, eager attention, placing by accelerate, compiling, training by Trainer."""
    pytest.importorskip("accelerate")
    work, _ = alone
    found = plainly(work, "eager", "halves", "devices", "compiled", "trained")
    assert found.keys() == CASES.keys()
    for case, of in found.items():
        expected = torch.load(work / case / "expected.pt")
        for logits in (of["eager"], *of["devices"], of["compiled"]):
            torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5, msg=case)
        for logits, far in zip(of["halves"], (0.2, 0.02), strict=True):  # bf16, fp16
            assert logits.dtype == torch.float32
            torch.testing.assert_close(logits, expected, atol=far, rtol=0, msg=case)
        before, after, same = of["trained"]
        assert after < before - 0.05 and same, case


def compare(model: SoftPromptModel, batch: dict[str, torch.Tensor], out: Path, name: str) -> None:
    """A model that is saved and read again has the logits of the original."""
    if isinstance(model.readout, HeadReadout):  # which is loaded without the head for words
        model.backbone = model.backbone.base_model
    to_huggingface(model, LABELS).save_pretrained(out)
    alone = SkipForSequenceClassification.from_pretrained(out).eval()
    with torch.no_grad():
        expected, found = model(**batch), alone(**batch).logits
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_random_cuts_keep_their_logits(kind: str, tmp_path: Path) -> None:
    for seed in range(300, 303):
        model, batch, keep = random_case(kind, seed)
        del batch["labels"]
        compare(cut(model, keep), batch, tmp_path, f"{kind} {seed}")


def test_what_random_cuts_leave_out(tmp_path: Path) -> None:
    """Nothing cut, either pooling, no prompt, and words of one piece, which share a step."""
    for kind, pooling in product(ENCODERS, ("mean", "cls")):
        model = tiny_model(kind, "prefix", "head")
        model.readout.pooling = pooling
        compare(model, inputs(kind), tmp_path, pooling)
        model.prompt = NoPrompt()
        compare(model, inputs(kind), tmp_path, "no prompt")
    model = tiny_model("t5", "input", "seq2seq")
    model.readout = type(model.readout)([[7], [9], [11]], start_id=0)
    compare(model, inputs("t5"), tmp_path, "one piece")


def test_here_it_needs_no_remote_code_and_the_skill_is_in_the_folder(alone: Any) -> None:
    out = alone[0] / "bert" / "out"
    model = AutoModelForSequenceClassification.from_pretrained(out)
    assert isinstance(model, SkipForSequenceClassification)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.config.label2id == {"negative": 0, "positive": 1}
    assert model.config.problem_type == "single_label_classification"
    os.umask(umask := os.umask(0))
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o666 & ~umask}
    expected = json.loads((alone[0] / "bert/answers.json").read_text())
    assert Skill.load(out, out.parent / "backbone").predict(["a warm film", "dull"]) == expected


def test_a_skill_that_is_all_weights_has_no_files_of_its_own(tmp_path: Path) -> None:
    saved = made(tmp_path, "bert", train="full")
    out = exported(saved, tmp_path / "out")
    assert not list(out.glob("skill.*"))
    batch = inputs("bert")
    model = AutoModelForSequenceClassification.from_pretrained(out)
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, saved.model(**batch), atol=1e-5, rtol=0)
    with pytest.raises(SkipError, match="AutoModel"):
        Skill.load(out)


def test_a_text_too_long_for_its_positions_is_one_line() -> None:
    model = to_huggingface(tiny_model("bert", "input"), LABELS)  # 64 positions, a prompt of 4
    ids = torch.full((1, 61), 7)
    with pytest.raises(ValueError, match=r"61 .* 60 .*truncation=True"):
        model(ids)
    assert model(ids[:, :60]).logits.shape == (1, 3)


def test_labels_give_a_loss() -> None:
    model, batch = to_huggingface(tiny_model("bert"), LABELS), tiny_batch("bert")
    output = model(**batch)
    expected = torch.nn.functional.cross_entropy(output.logits, batch["labels"])
    assert output.loss.item() == pytest.approx(expected.item())
    loss, logits = model(**batch, return_dict=False)
    assert torch.equal(loss, output.loss) and torch.equal(logits, output.logits)
