"""Skills and exports as nobody should find them: refused in one line, or harmless."""

import json
import math
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch.utils._python_dispatch import TorchDispatchMode

from skip_exp import OnnxSkill, Skill
from skip_exp.errors import SkipError
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.record import TENSORS, checksum
from tests.helpers.hostile import altered_bytes, altered_json, examples, sign_export
from tests.helpers.saved import Saved

TEXTS = ["a warm film", "", "w3 " * 60]
COUNTS = [20, pytest.param(200, marks=pytest.mark.slow)]
Reader = Callable[[Path], Classifier]


@pytest.fixture
def folder(tiny: Saved, tmp_path: Path) -> Path:
    """A copy of the skill, to be altered."""
    return Path(shutil.copytree(tiny.folder, tmp_path / "skill"))


def is_refused_or_harmless(read: Reader, folder: Path) -> None:
    """One line that names the folder or a field; or probabilities of every label."""
    tracemalloc.start()
    try:
        answers = read(folder).predict(TEXTS)
    except SkipError as error:
        assert "\n" not in str(error) and 0 < len(str(error)) < 20_000
    else:
        for answer in answers:
            values = answer["probabilities"].values()
            assert len(values) >= 2 and all(map(math.isfinite, values))
            assert abs(sum(values) - 1) < 1e-3
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 100e6, peak


def signed(folder: Path, described: Any) -> None:
    """Write ``described`` under a checksum that is right."""
    if isinstance(described, dict):
        described.pop("sha256", None)
        fields = {key: value for key, value in described.items() if key != "version"}
        described["sha256"] = checksum((folder / TENSORS).read_bytes(), fields)
    (folder / "skill.json").write_text(json.dumps(described))


@pytest.mark.parametrize("count", COUNTS)
def test_skill_json(folder: Path, count: int) -> None:
    document = json.loads((folder / "skill.json").read_text())

    def check(described: Any) -> None:
        signed(folder, described)
        is_refused_or_harmless(Skill.load, folder)

    examples(count, altered_json(document), check)


def altered_tensors(content: bytes) -> st.SearchStrategy[bytes]:
    """Tensors of other shapes, types, values and names; or a file that is none."""
    tensors = load(content)

    def alter(name: str, how: str) -> bytes:
        t, rest = tensors[name], {n: t for n, t in tensors.items() if n != name}
        changed = {
            "gone": {},
            "renamed": {f"{name}x": t},
            "foreign": {name: t, "../../x": t, "keep/encoder.9.ffn": torch.arange(3)},
            "negative": {name: -t - 1},
            "large": {name: t + 10**6},
            "nan": {name: t.float() * float("nan")},
            "halves": {name: t.half()},
            "whole": {name: t.long()},
            "true": {name: t.bool()},
            "flat": {name: t.flatten()},
            "scalar": {name: t.new_zeros(())},
            "empty": {name: t.new_zeros(0)},
            "longer": {name: torch.cat([t, t])} if t.dim() else {},
            "turned": {name: t.flip(0)} if t.dim() else {},
            "wrapped": {name: t[None]},
        }[how]
        return save({n: x.clone().contiguous() for n, x in (rest | changed).items()})

    ways = "gone renamed foreign negative large nan halves whole true flat scalar empty longer"
    ways += " turned wrapped"
    drawn = st.builds(alter, st.sampled_from(sorted(tensors)), st.sampled_from(ways.split()))
    return st.one_of(drawn, drawn, altered_bytes(content))


@pytest.mark.parametrize("count", COUNTS)
def test_skill_safetensors(folder: Path, count: int) -> None:
    path, document = folder / "skill.safetensors", json.loads((folder / "skill.json").read_text())

    def check(content: bytes) -> None:
        path.write_bytes(content)
        signed(folder, dict(document))
        is_refused_or_harmless(Skill.load, folder)

    examples(count, altered_tensors(path.read_bytes()), check)


@pytest.mark.parametrize("count", COUNTS)
def test_an_onnx_export(onnx_folder: Path, tmp_path: Path, count: int) -> None:
    folder = Path(shutil.copytree(onnx_folder, tmp_path / "export"))
    originals = {file.name: file.read_bytes() for file in folder.iterdir()}
    documents = {name: json.loads(originals[name]) for name in originals if name.endswith("json")}

    def check(altered: tuple[str, Any]) -> None:
        for name, content in originals.items():
            (folder / name).write_bytes(content)
        name, value = altered
        (folder / name).write_bytes(value if name == "model.onnx" else json.dumps(value).encode())
        sign_export(folder)
        is_refused_or_harmless(OnnxSkill.load, folder)

    drawn = [st.tuples(st.just("model.onnx"), altered_bytes(originals["model.onnx"]))]
    drawn += [st.tuples(st.just(name), altered_json(value)) for name, value in documents.items()]
    examples(count, st.one_of(drawn), check)


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
def test_code_beside_an_export_is_never_run(onnx_folder: Path, tmp_path: Path, where: str) -> None:
    folder = Path(shutil.copytree(onnx_folder, tmp_path / "export"))
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()\n")
    described = json.loads((folder / where).read_text())
    described["auto_map"] = {
        "AutoConfig": "own.Config",
        "AutoModel": "own.Model",
        "AutoTokenizer": ["own.Tokenizer", "own.Tokenizer"],
    }
    if where == "config.json":
        described["settings"] = {"auto_map": described.pop("auto_map")}
    else:
        described["tokenizer_class"] = "OwnTokenizer"
    (folder / where).write_text(json.dumps(described))
    sign_export(folder)
    is_refused_or_harmless(OnnxSkill.load, folder)
    assert not ran.exists()


class NothingBig(TorchDispatchMode):
    """Refuses tensors of a million numbers in memory."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            assert made.is_meta or made.numel() < 10**6, (func, made.shape)
        return made


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"prompt": {"kind": "prefix", "length": 100_000, "decoder": False}}, "prompt.keys.0"),
        ({"prompt": {"kind": "input", "length": 100_000, "decoder": False}}, "prompt.embedding"),
        ({"labels": [f"l{i}" for i in range(100_000)], "words": []}, "readout.linear.weight"),
    ],
)
def test_sizes_that_are_not_stored_are_refused_before_anything_is_built(
    folder: Path, fields: dict[str, Any], name: str
) -> None:
    described = json.loads((folder / "skill.json").read_text()) | fields
    tensors = load((folder / TENSORS).read_bytes()) | {name: torch.empty(100_000, 0)}
    (folder / TENSORS).write_bytes(save(tensors))
    signed(folder, described)
    with NothingBig(), pytest.raises(SkipError, match="does not fit"):
        Skill.load(folder)


def test_weights_of_onnx_outside_the_folder_are_not_read(onnx_folder: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    folder = Path(shutil.copytree(onnx_folder, tmp_path / "export"))
    (tmp_path / "secret").write_bytes(bytes(10**6))
    model = onnx.load(folder / "model.onnx")
    weight = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    length = len(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "../secret", "offset": "0", "length": str(length)}.items():
        weight.external_data.add(key=key, value=value)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    sign_export(folder)
    with pytest.raises(SkipError, match=r"model\.onnx: cannot be used"):
        OnnxSkill.load(folder)
