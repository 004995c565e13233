"""A damaged file is read as it was, or refused by one SkipError; no other exception escapes.

Files are damaged as they are, so that a checksum sees it, and under a checksum that is right again.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import load, save

from skip_exp import OnnxSkill, Skill, results
from skip_exp.errors import SkipError
from skip_exp.outcomes.registry import OUTCOMES
from skip_exp.skill.export.onnx import runtime
from skip_exp.skill.files import KEEP
from skip_exp.skill.record import (
    CONFIG,
    ONNX,
    RECORD,
    TENSORS,
    checksum,
    find_skill,
    read_about,
)
from tests.helpers.saved import Saved, tokenizer
from tests.helpers.tiny import VOCAB

pytestmark = pytest.mark.property

TEXTS = ["a warm film", "dull", "the plot was long"]
NO_OBJECT = ["5", "null", "true", '"version"', '["version", "status"]', "[]"]
VALUES = st.sampled_from(
    [None, True, -1, 0, 1, 10**6, 0.5, -1.0, float("nan"), "", "a", "\x00", [], ["a"], [None], {}]
)


Damage = Callable[[bytes], bytes]
Sign = Callable[[Path], None]
Values = dict[str, Any]


@st.composite
def damages(draw: Any) -> Damage:
    """Up to three bytes of a file are other ones, or its end is missing."""
    if draw(st.booleans()):
        share = draw(st.floats(0, 1, exclude_max=True))
        return lambda content: content[: int(share * len(content))]
    near_start = st.integers(0, 400) | st.integers(0, 2**20)
    flips = draw(st.lists(st.tuples(near_start, st.integers(1, 255)), min_size=1, max_size=3))

    def flip(content: bytes) -> bytes:
        damaged = bytearray(content)
        for at, bits in flips:
            damaged[at % len(content)] ^= bits
        return bytes(damaged)

    return flip


@st.composite
def odd_fields(draw: Any) -> Damage:
    """One field of a JSON file, on any level, has an odd value or is gone."""
    choice = draw(st.integers(0, 2**16))
    value = draw(VALUES)
    is_gone = draw(st.booleans())

    def change(content: bytes) -> bytes:
        described = json.loads(content)
        places = list_places(described)
        node, name = places[choice % len(places)]
        if is_gone:
            del node[name]
        else:
            node[name] = value
        return json.dumps(described).encode()

    return change


def list_places(node: Any) -> list[tuple[Any, Any]]:
    """Every field and item below a JSON value: what holds it, and its name or index there."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(node, dict):
        pairs = list(node.items())
    elif isinstance(node, list):
        pairs = list(enumerate(node))
    places: list[tuple[Any, Any]] = []
    for name, inner in pairs:
        if name not in ("version", "sha256"):
            places.append((node, name))
            places += list_places(inner)
    return places


def leave(folder: Path) -> None:
    """The checksum stays as it was."""


def sign(folder: Path, name: str, compute: Callable[[dict[str, Any]], str]) -> None:
    """Make the checksum right again, where the record can be read."""
    path = folder / name
    try:
        described = json.loads(path.read_bytes())
        head = {"version": described.pop("version"), "sha256": described.pop("sha256")}
    except (ValueError, LookupError, AttributeError, TypeError):
        return
    head["sha256"] = compute(described)
    path.write_text(json.dumps(head | described))


def sign_skill(folder: Path) -> None:
    sign(folder, RECORD, lambda described: checksum((folder / TENSORS).read_bytes(), described))


def sign_export(folder: Path) -> None:
    sign(folder, CONFIG, lambda described: runtime.checksum(folder, described))


@pytest.fixture(scope="module")
def skill(tiny: Saved, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """``skill()``: the folder of a skill that is whole, and names no folder of this machine."""
    root = tmp_path_factory.mktemp("skill")
    described = json.loads((tiny.folder / RECORD).read_text())
    described["backbone"]["path"] = "./bert"
    whole = root / "whole"
    shutil.copytree(tiny.folder, whole)
    (whole / RECORD).write_text(json.dumps(described, indent=1))
    sign_skill(whole)
    return lambda: restore(whole, root / "damaged")


@pytest.fixture(scope="module")
def export(
    tiny: Saved, onnx_packages: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Path]:
    """``export()``: the folder of an ONNX export that is whole; its model is a sum of ids."""
    root = tmp_path_factory.mktemp("export")
    whole = root / "whole"
    tokenizer("bert").save_pretrained(whole)
    write_graph(whole / ONNX)
    described = tiny.about.to_share().stored() | {"format": "onnx", "int8": False}
    described |= {"id2label": {"0": "negative", "1": "positive"}, "vocab_size": VOCAB}
    described["backbone"]["path"] = "./bert"
    head = {"version": 1, "sha256": ""}
    (whole / CONFIG).write_text(json.dumps(head | described, indent=1))
    sign_export(whole)
    return lambda: restore(whole, root / "damaged")


@pytest.fixture(scope="module")
def backbone(tiny: Saved) -> Path:
    """The folder of the skill's backbone."""
    return tiny.backbone


def write_graph(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    names = ("input_ids", "attention_mask", "token_type_ids")
    shape = ["batch", "length"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in names]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    nodes = [
        helper.make_node("Mul", names[:2], ["ids"]),
        helper.make_node("Cast", ["ids"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Neg", ["mean"], ["other"]),
        helper.make_node("Concat", ["mean", "other"], ["logits"], axis=1),
    ]
    graph = helper.make_graph(nodes, "sum", inputs, [output])
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def restore(whole: Path, folder: Path) -> Path:
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    return folder


def answer_skill(folder: Path, backbone: Path) -> Any:
    return Skill.load(folder, backbone).predict(TEXTS)


def answer_export(folder: Path) -> Any:
    read_about(folder)
    return OnnxSkill.load(folder, threads=1).predict(TEXTS)


def answer_or_refuse(answer: Callable[..., Any], *arguments: Path) -> Any:
    """The answers; None where a SkipError of one line refuses the files."""
    try:
        return answer(*arguments)
    except SkipError as error:
        assert "\n" not in str(error)
        return None


def change_file(path: Path, damage: Damage, sign_again: Sign) -> None:
    path.write_bytes(damage(path.read_bytes()))
    sign_again(path.parent)


def change_record(path: Path, damage: Damage, sign_again: Sign) -> None:
    """Change a record, but not by a cause that has a test of its own."""
    change_file(path, damage, sign_again)
    try:
        described = json.loads(path.read_bytes())
        is_checked = described["kind"] in OUTCOMES and described["max_length"] > 0
        is_checked &= described["prompt"]["length"] >= 0 and len(described["labels"]) == 2
    except (ValueError, LookupError, TypeError):
        return
    assume(is_checked)


@pytest.mark.parametrize("name", [RECORD, TENSORS])
@given(damage=damages())
def test_a_damaged_skill_answers_as_before_or_not(
    skill: Callable[[], Path], backbone: Path, name: str, damage: Damage
) -> None:
    folder = skill()
    expected = answer_skill(folder, backbone)
    change_file(folder / name, damage, leave)
    assert answer_or_refuse(answer_skill, folder, backbone) in (expected, None)


@given(damage=damages())
def test_damaged_tensors_that_are_signed_are_loaded_or_refused(
    skill: Callable[[], Path], backbone: Path, damage: Damage
) -> None:
    folder = skill()
    change_file(folder / TENSORS, damage, sign_skill)
    answer_or_refuse(answer_skill, folder, backbone)


INDICES = st.lists(st.integers(0, 30) | st.integers(-2, 2**15), max_size=6)
KINDS_OF_NUMBERS = st.sampled_from([torch.uint16, torch.int64, torch.float32, torch.bool])


@given(indices=INDICES, kind=KINDS_OF_NUMBERS, choice=st.integers(0, 3))
def test_odd_indices_are_loaded_or_refused(
    skill: Callable[[], Path], backbone: Path, indices: list[int], kind: torch.dtype, choice: int
) -> None:
    folder = skill()
    tensors = load((folder / TENSORS).read_bytes())
    sites = [name for name in tensors if name.startswith(KEEP)]
    tensors[sites[choice % len(sites)]] = torch.tensor(indices).to(kind)
    (folder / TENSORS).write_bytes(save(tensors))
    sign_skill(folder)
    answer_or_refuse(answer_skill, folder, backbone)


@pytest.mark.parametrize("content", NO_OBJECT)
def test_a_record_that_is_no_object_is_refused(
    skill: Callable[[], Path], backbone: Path, content: str
) -> None:
    folder = skill()
    (folder / RECORD).write_text(content)
    assert answer_or_refuse(answer_skill, folder, backbone) is None
    assert answer_or_refuse(read_about, folder) is None


@pytest.mark.parametrize("content", NO_OBJECT)
def test_a_config_that_is_no_object_is_refused(export: Callable[[], Path], content: str) -> None:
    folder = export()
    (folder / CONFIG).write_text(content)
    assert answer_or_refuse(OnnxSkill.load, folder) is None
    assert answer_or_refuse(read_about, folder) is None


@pytest.mark.parametrize("content", NO_OBJECT)
def test_a_result_that_is_no_object_is_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / results.FILE).write_text(content)
    assert results.load(tmp_path) == []
    assert results.read_finished(tmp_path) is None
    assert find_skill(tmp_path) == tmp_path


@given(damage=damages() | odd_fields())
def test_a_damaged_record_that_is_signed_is_loaded_or_refused(
    skill: Callable[[], Path], backbone: Path, damage: Damage
) -> None:
    folder = skill()
    change_record(folder / RECORD, damage, sign_skill)
    answer_or_refuse(answer_skill, folder, backbone)


FIELDS: dict[str, Values] = {
    "kind": {"kind": "no_label"},
    "max_length": {"max_length": -1},
    "prompt.length": {"prompt": {"kind": "prefix", "length": -1}},
    "no labels": {"labels": []},
    "a label too many": {"labels": ["a", "b", "c"]},
}


def set_fields(values: Values) -> Damage:
    return lambda content: json.dumps(json.loads(content) | values).encode()


@pytest.mark.parametrize("case", FIELDS)
def test_a_field_without_meaning_is_refused_in_a_skill(
    skill: Callable[[], Path], backbone: Path, case: str
) -> None:
    folder = skill()
    change_file(folder / RECORD, set_fields(FIELDS[case]), sign_skill)
    assert answer_or_refuse(answer_skill, folder, backbone) is None


@pytest.mark.parametrize("case", [case for case in FIELDS if case != "prompt.length"])
def test_a_field_without_meaning_is_refused_in_an_export(
    export: Callable[[], Path], case: str
) -> None:
    folder = export()
    change_file(folder / CONFIG, set_fields(FIELDS[case]), sign_export)
    assert answer_or_refuse(answer_export, folder) is None


@pytest.mark.parametrize("name", [CONFIG, ONNX])
@given(damage=damages())
def test_a_damaged_export_answers_as_before_or_not(
    export: Callable[[], Path], name: str, damage: Damage
) -> None:
    folder = export()
    expected = answer_export(folder)
    change_file(folder / name, damage, leave)
    assert answer_or_refuse(answer_export, folder) in (expected, None)


@given(damage=damages() | odd_fields())
def test_a_damaged_export_that_is_signed_is_loaded_or_refused(
    export: Callable[[], Path], damage: Damage
) -> None:
    folder = export()
    change_record(folder / CONFIG, damage, sign_export)
    answer_or_refuse(answer_export, folder)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished job without its skill."""
    folder = tmp_path_factory.mktemp("job")
    score = results.MainScores(name="accuracy", dense=0.5, final=0.5)
    result = results.Result(job_id="a", task="rte", skill="skill", metric=score, seed=1)
    results.write(folder, result)
    return folder


@given(damage=damages() | odd_fields())
def test_a_damaged_result_is_loaded_or_left_out(job: Path, damage: Damage) -> None:
    path = job / results.FILE
    whole = path.read_bytes()
    try:
        path.write_bytes(damage(whole))
        assert len(results.load(job)) <= 1
        results.read_finished(job)
        find_skill(job)
    except SkipError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(whole)
