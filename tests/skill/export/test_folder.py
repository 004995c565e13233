"""Exports: the same answers without the backbone, in folders that appear whole or not at all."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skip_exp import OnnxSkill, Skill
from skip_exp.commands import export, predict
from skip_exp.commands.export import main
from skip_exp.errors import SkipError
from skip_exp.models.backbones import load_backbone
from skip_exp.skill.export.onnx import write as onnx_skill
from skip_exp.skill.export.onnx.write import Differences, compare_onnx
from tests.helpers.saved import Saved, save_tiny_skill

TEXTS = ["a warm film", "dull", "the plot is long and the film was not funny", "very good", ""]
CASES = {
    "bert": ("bert", "prefix", "head", False),
    "bert mlm": ("bert", "input", "mlm", False),
    "roberta": ("roberta", "prefix", "head", False),
    "t5 encoder": ("t5", "prefix", "head", False),
    "t5": ("t5", "prefix", "seq2seq", True),
    "t5 gated": ("t5_gated", "input", "seq2seq", False),
}
IN_THE_NORMAL_RUN = ("bert",)  # an ONNX export takes seconds


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    load_backbone.cache_clear()
    yield
    load_backbone.cache_clear()


def made(root: Path, case: str, **more: str) -> Saved:
    kind, prompt, readout, decoder = CASES[case]
    return save_tiny_skill(root, kind, prompt, readout, decoder=decoder, **more)  # type: ignore[arg-type]


def test_the_folders_of_the_machine_stay_at_home(tmp_path: Path) -> None:
    skill = Skill.load(made(tmp_path, "bert").folder)
    scores = skill.about.scores.model_copy(update={"data": "local:/home/somebody/data"})
    out = tmp_path / "out"
    export.export(replace(skill, about=skill.about.changed(scores=scores)), out, "hf")
    assert not [path for path in out.iterdir() if b"/home/somebody" in path.read_bytes()]
    assert Skill.load(out).about.scores.data == "local"


def test_a_folder_in_use_is_left_alone(tmp_path: Path, capsys: Any) -> None:
    saved = made(tmp_path, "bert")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    for out in ("full", "full/mine"):
        assert main([str(saved.folder), str(tmp_path / out)]) == 2
        told = capsys.readouterr()
        assert told.err.startswith("error: ") and "is not an empty folder" in told.err
        assert told.out == ""
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    assert main([str(saved.folder), str(tmp_path / "empty")]) == 0


def test_a_stand_alone_export_of_before_is_named(tmp_path: Path, capsys: Any) -> None:
    described = {"version": 1, "format": "safetensors", "task": "toy"}
    (tmp_path / "config.json").write_text(json.dumps(described))
    (tmp_path / "model.safetensors").touch()
    assert predict.main([str(tmp_path), "a film"]) == 2
    told = capsys.readouterr().err
    assert "--format hf" in told and str(tmp_path) in told and told.count("\n") == 1


# --- ONNX ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [c if c in IN_THE_NORMAL_RUN else pytest.param(c, marks=pytest.mark.slow) for c in CASES],
)
def test_onnx_gives_the_same_logits(tmp_path: Path, case: str, capsys: Any) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    saved = made(tmp_path, case, train="lora")
    out = tmp_path / "out"
    assert main([str(saved.folder), str(out), "--format", "onnx"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"written: {out} (")
    skill = Skill.load(saved.folder)
    long = " ".join(f"w{i}" for i in range(40))
    texts = [*TEXTS, long, "a", "bad bad film"]
    assert compare_onnx(skill, out / "model.onnx", texts).logits < 1e-5

    session = onnxruntime.InferenceSession(out / "model.onnx")
    inputs = ["input_ids", "attention_mask"] + (["token_type_ids"] if "bert" in case[:4] else [])
    assert [each.name for each in session.get_inputs()] == inputs
    assert all(each.shape == ["batch", "length"] for each in session.get_inputs())
    assert [each.name for each in session.get_outputs()] == ["logits"]
    config = json.loads((out / "config.json").read_text())
    assert config["format"] == "onnx" and config["labels"] == ["negative", "positive"]
    assert config["int8"] is False
    with pytest.raises(SkipError, match=r"an ONNX export; skip_exp.OnnxSkill.load reads it"):
        Skill.load(out)
    same = zip(OnnxSkill.load(out).predict(texts), skill.predict(texts), strict=True)
    for one, other in same:
        assert one["label"] == other["label"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("int8", "found", "named"),
    [
        (False, (2e-4, 0.0, 0.0), "--format onnx: logits .*2.0e-04"),
        (False, (float("nan"), 0.0, 0.0), "--format onnx: logits .*nan"),
        (True, (0.0, 0.2, 0.0), "--int8: .*2.0e-01"),
        (True, (0.0, 0.0, 0.05), "--int8: .*5.0e-02"),
    ],
)
def test_onnx_that_differs_is_not_written(
    tiny: Saved,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    int8: bool,
    found: tuple[float, float, float],
    named: str,
) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    monkeypatch.setattr(onnx_skill, "to_onnx", lambda skill, path: path.write_bytes(b"graph"))
    monkeypatch.setattr(onnx_skill, "quantise", lambda path: None)
    monkeypatch.setattr(onnx_skill, "compare_onnx", lambda *_: Differences(*found))
    with pytest.raises(SkipError, match=named):
        export.export(Skill.load(tiny.folder), tmp_path / "out", "onnx", int8=int8)
    assert not list(tmp_path.iterdir())


def test_onnx_without_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skill = Skill.load(made(tmp_path, "bert").folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SkipError, match=r"onnx is not installed: pip install 'skip_exp\[export\]'"):
        export.export(skill, tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_pairs_are_checked_as_pairs(tmp_path: Path) -> None:
    skill = Skill.load(save_tiny_skill(tmp_path, text=("first", "second")).folder)
    batch = onnx_skill._batch(skill, ["a film", "bad"])
    assert batch["input_ids"].shape == (2, 6)
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]


def test_int8_is_near_and_has_int8_weights(tiny: Saved, onnx_folder: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = onnx_folder / "model.onnx"
    found = compare_onnx(Skill.load(tiny.folder), path, TEXTS)
    assert found.logits > 1e-6 and found.probabilities <= onnx_skill.ROUNDING
    assert found.neighbours <= onnx_skill.NEIGHBOURS
    weights = [w for w in onnx.load(path).graph.initializer if w.data_type == onnx.TensorProto.INT8]
    linears = [b for b in tiny.model.blocks() if b.output.in_features]
    assert len([w for w in weights if len(w.dims) == 2]) >= len(linears)
    assert json.loads((onnx_folder / "config.json").read_text())["int8"] is True
    assert not (onnx_folder / "simpler.onnx").exists()


def test_int8_is_for_onnx_alone(tmp_path: Path, capsys: Any) -> None:
    assert main([str(made(tmp_path, "bert").folder), str(tmp_path / "out"), "--int8"]) == 2
    assert "--int8: not for --format hf" in capsys.readouterr().err


def test_predict_takes_an_onnx_export_that_is_whole(
    tiny: Saved, onnx_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    out = shutil.copytree(onnx_folder, tmp_path / "out")
    assert predict.main([str(out), TEXTS[0]]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["label"] == Skill.load(tiny.folder).predict([TEXTS[0]])[0]["label"]
    assert predict.main([str(out), TEXTS[0], "--precision", "bf16"]) == 2
    assert "--precision bf16: " in capsys.readouterr().err
    with (out / "model.onnx").open("ab") as file:
        file.write(b"x")
    assert predict.main([str(out), TEXTS[0]]) == 2
    assert "damaged or altered: model.onnx is not what config.json" in capsys.readouterr().err
