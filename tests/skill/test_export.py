"""Stand-alone folders: the same answers without the backbone, from PyTorch and from onnxruntime."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from skip_exp import OnnxSkill, Skill
from skip_exp.commands import export, predict
from skip_exp.commands.export import main
from skip_exp.config.prune import RECONSTRUCT
from skip_exp.data.batches import collate
from skip_exp.errors import SkipError
from skip_exp.models.backbones import load_backbone
from skip_exp.skill import to_onnx as onnx_skill
from skip_exp.skill.classifier import encode_texts
from skip_exp.skill.to_onnx import compare_onnx
from tests.helpers.saved import Saved, save_tiny_skill
from tests.helpers.toy import rarely

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


def logits(skill: Skill) -> torch.Tensor:
    rows = encode_texts(skill.tokenizer, [[text] for text in TEXTS], 24)
    with torch.no_grad():
        return skill.model(**collate(rows, skill.tokenizer.pad_token_id))


def without_backbone(saved: Saved) -> None:
    for file in saved.backbone.iterdir():
        file.unlink()
    load_backbone.cache_clear()


@pytest.mark.parametrize("case", CASES)
def test_safetensors_needs_no_backbone(tmp_path: Path, case: str) -> None:
    saved = made(tmp_path, case)
    skill = Skill.load(saved.folder)
    out = tmp_path / "out"
    assert main([str(saved.folder), str(out)]) == 0
    without_backbone(saved)
    alone = Skill.load(out)
    assert alone.about == skill.about
    assert torch.equal(logits(alone), logits(skill))
    assert alone.predict(TEXTS) == skill.predict(TEXTS)
    assert not any(t.is_meta for t in [*alone.model.parameters(), *alone.model.buffers()])
    again = tmp_path / "again"
    export.export(alone, again, "safetensors")
    assert (again / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("reconstruct", RECONSTRUCT)
@pytest.mark.parametrize("train", ["prompt_readout", "lora"])
@pytest.mark.parametrize("kind", ["t5", *rarely("bert")])
def test_biases_and_changes_are_exported(
    tmp_path: Path, kind: str, train: str, reconstruct: str
) -> None:
    saved = save_tiny_skill(tmp_path, kind, train=train, reconstruct=reconstruct)
    export.export(Skill.load(saved.folder), tmp_path / "out", "safetensors")
    without_backbone(saved)
    rows = collate(encode_texts(Skill.load(tmp_path / "out").tokenizer, [["dull film"]], 24), 0)
    with torch.no_grad():
        assert torch.equal(Skill.load(tmp_path / "out").model(**rows), saved.model(**rows))


@pytest.mark.parametrize("format", ["safetensors", "hf"])
def test_the_folders_of_the_machine_stay_at_home(tmp_path: Path, format: str) -> None:
    skill = Skill.load(made(tmp_path, "bert").folder)
    scores = skill.about.scores | {"data": "local:/home/somebody/data"}
    out = tmp_path / "out"
    export.export(replace(skill, about=replace(skill.about, scores=scores)), out, format)
    assert not [path for path in out.iterdir() if b"/home/somebody" in path.read_bytes()]
    assert Skill.load(out).about.scores["data"] == "local"


def test_the_folder_says_what_is_in_it(tmp_path: Path) -> None:
    saved = made(tmp_path, "t5")
    out = tmp_path / "out"
    size = export.export(Skill.load(saved.folder), out, "safetensors")
    assert size == sum(file.stat().st_size for file in out.iterdir())
    assert {f.name for f in out.iterdir()} == {
        *("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"),
        "README.md",
    }
    config = json.loads((out / "config.json").read_text())
    assert config["labels"] == ["negative", "positive"]
    assert config["settings"]["model_type"] == "t5"
    assert config["layers"]["encoder.0.self"] == {"heads": 2, "qk": 2, "vo": 8}
    assert config["layers"]["encoder.0.ffn"] == {"units": 4}
    assert config["layers"]["decoder.1.cross"] == {"heads": 0, "qk": 8, "vo": 8}
    assert config["layers"]["decoder.1.ffn"] == {"units": 0}
    tensors = load_file(out / "model.safetensors")
    assert tensors["backbone.encoder.block.0.layer.1.DenseReluDense.wi.weight"].shape == (4, 24)
    tied = [name for name, t in tensors.items() if t.shape == (50, 24)]
    assert tied == ["backbone.shared.weight"]  # not once more for encoder, decoder and head


def test_the_library_does_not_take_it_for_a_model_of_its_own(tmp_path: Path) -> None:
    from transformers import AutoModel

    export.export(Skill.load(made(tmp_path, "bert").folder), tmp_path / "out", "safetensors")
    with pytest.raises(ValueError, match="model_type"):
        AutoModel.from_pretrained(tmp_path / "out")


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    skill = Skill.load(made(tmp_path, "bert").folder)
    export.export(skill, tmp_path / "weights", "safetensors")
    path = tmp_path / "weights/model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    export.export(skill, tmp_path / "tokenizer", "safetensors")
    (tmp_path / "tokenizer/tokenizer.json").write_text("{")
    export.export(skill, tmp_path / "layers", "safetensors")
    path = tmp_path / "layers/config.json"
    path.write_text(path.read_text().replace('"units": 4', '"units": 5'))
    for name, message in (
        ("weights", "checksum"),
        ("tokenizer", "cannot be loaded"),
        ("layers", "checksum"),
    ):
        with pytest.raises(SkipError, match=message) as caught:
            Skill.load(tmp_path / name)
        assert "\n" not in str(caught.value)


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


# --- ONNX ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [c if c in IN_THE_NORMAL_RUN else pytest.param(c, marks=pytest.mark.slow) for c in CASES],
)
def test_onnx_gives_the_same_logits(tmp_path: Path, case: str, capsys: Any) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    saved = made(tmp_path, case, train="lora", reconstruct="least_squares")
    out = tmp_path / "out"
    assert main([str(saved.folder), str(out), "--format", "onnx"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"written: {out} (")
    skill = Skill.load(saved.folder)
    long = " ".join(f"w{i}" for i in range(40))
    texts = [*TEXTS, long, "a", "bad bad film"]
    assert compare_onnx(skill, out / "model.onnx", texts)[0] < 1e-5

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


@pytest.mark.parametrize("difference", [2e-4, float("nan")])
def test_onnx_that_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    skill = Skill.load(made(tmp_path, "bert").folder)
    monkeypatch.setattr(onnx_skill, "_to_onnx", lambda skill, path: path.write_bytes(b"graph"))
    monkeypatch.setattr(onnx_skill, "compare_onnx", lambda *_: (difference, 0.0))
    with pytest.raises(SkipError, match=r"logits differ by .* nothing was written"):
        export.export(skill, tmp_path / "out", "onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backbone", "skill"]


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
    logits, probabilities = compare_onnx(Skill.load(tiny.folder), path, TEXTS)
    assert logits > 1e-6 and probabilities <= onnx_skill.ROUNDING
    weights = [w for w in onnx.load(path).graph.initializer if w.data_type == onnx.TensorProto.INT8]
    linears = [b for b in tiny.model.blocks() if b.output.in_features]
    assert len([w for w in weights if len(w.dims) == 2]) >= len(linears)
    assert json.loads((onnx_folder / "config.json").read_text())["int8"] is True
    assert not (onnx_folder / "simpler.onnx").exists()


def test_int8_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    skill = Skill.load(made(tmp_path, "bert").folder)
    monkeypatch.setattr(onnx_skill, "_to_onnx", lambda skill, path: path.write_bytes(b"graph"))
    monkeypatch.setattr(onnx_skill, "_quantise", lambda path: None)
    monkeypatch.setattr(onnx_skill, "compare_onnx", lambda *_: (0.0, 0.2))
    with pytest.raises(SkipError, match=r"--int8: probabilities differ by 0\.20"):
        export.export(skill, tmp_path / "out", "onnx", int8=True)
    assert not (tmp_path / "out").exists()


def test_int8_is_for_onnx_alone(tmp_path: Path, capsys: Any) -> None:
    assert main([str(made(tmp_path, "bert").folder), str(tmp_path / "out"), "--int8"]) == 2
    assert "--int8: not for --format safetensors" in capsys.readouterr().err


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
