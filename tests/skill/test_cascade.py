"""A cascade: what its members answer, its folder, and what it refuses."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from skip_exp import Cascade, OnnxSkill, Skill
from skip_exp.commands import evaluate, export, predict
from skip_exp.errors import SkipError
from skip_exp.skill.cascade import open_classifier
from skip_exp.skill.record import CASCADE
from tests.helpers.fixed import Fixed
from tests.helpers.saved import Saved, save_tiny_skill

TEXTS = ["a warm film", "dull", "the plot is long", "very good", "no"]


def test_a_text_goes_on_where_the_largest_probability_is_below_the_threshold(tiny: Saved) -> None:
    first = Fixed(tiny.about, {"sure": 0.9, "even": 0.8, "unsure": 0.3, "lost": 0.5})
    second = Fixed(tiny.about, {"unsure": 0.1, "lost": 0.6})
    third = Fixed(tiny.about, {"lost": 0.0})
    cascade = Cascade.of([first, second, third], [0.8, 0.7])
    found = cascade.predict(["sure", "lost", "unsure", "even"])
    assert [each["probabilities"]["positive"] for each in found] == [0.9, 0.0, 0.1, 0.8]
    assert [each["label"] for each in found][:2] == ["positive", "negative"]
    assert (second.seen, third.seen) == (["lost", "unsure"], ["lost"])
    assert cascade.predict([]) == []
    rows = [{"sentence": "sure", "label": "positive"}, {"sentence": "lost", "label": "positive"}]
    assert cascade.evaluate(rows)["accuracy"] == 0.5


@pytest.fixture(scope="module")
def skills(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two skills of one backbone."""
    root = tmp_path_factory.mktemp("skills")
    return tuple(save_tiny_skill(root, name=f"s{i}", seed=i).folder for i in (0, 1))


@pytest.fixture
def folder(skills: tuple[Path, Path], tmp_path: Path) -> Path:
    half = Skill.load(skills[0], precision="bf16")
    cascade = Cascade.of([half, Skill.load(skills[1])], [0.6])
    known = replace(cascade, sent_on=(0.25,), select=0.75, validation=0.5)
    return known.save(tmp_path / "cascade")


def test_a_saved_cascade_answers_as_before(folder: Path, skills: tuple[Path, Path]) -> None:
    cascade = open_classifier(folder)
    assert isinstance(cascade, Cascade)
    assert [member.form for member in cascade.members] == ["bf16", "fp32"]
    assert (cascade.thresholds, cascade.sent_on) == ((0.6,), (0.25,))
    assert (cascade.select, cascade.validation) == (0.75, 0.5)
    fast = Skill.load(skills[0], precision="bf16").predict(TEXTS)
    slow = Skill.load(skills[1]).predict(TEXTS)
    expected = []
    for one, other in zip(fast, slow, strict=True):
        expected.append(one if max(one["probabilities"].values()) >= 0.6 else other)
    for one, other in zip(cascade.predict(TEXTS), expected, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)
    again = cascade.save(folder.parent / "again")
    assert (again / CASCADE).read_text() == (folder / CASCADE).read_text()


def test_members_share_the_weights_of_their_backbone(folder: Path) -> None:
    half, whole = Cascade.load(folder).members
    other = Cascade.load(folder).members[1]
    words = [m.model.backbone.get_input_embeddings().weight for m in (whole, other, half)]
    assert words[0] is words[1] and words[2] is not words[0]


def test_the_commands_open_whichever_it_is(
    folder: Path, skills: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert predict.main([str(folder), "a warm film"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] in ("negative", "positive")
    assert predict.main([str(folder), "dull", "--precision", "bf16"]) == 2
    rows = tmp_path / "rows.csv"
    rows.write_text("sentence,label\ngood,positive\nbad,negative\n")
    assert evaluate.main([str(folder), str(rows), "--json"]) == 0
    for more in ([], ["--format", "onnx", "--vocabulary", "train"]):
        assert export.main([str(folder), str(tmp_path / "out"), *more]) == 2
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    for load in (Skill.load, OnnxSkill.load):
        with pytest.raises(SkipError, match=r"Cascade\.load"):
            load(folder)
    with pytest.raises(SkipError):
        Cascade.load(skills[0])


@pytest.mark.parametrize("field", ["task", "labels", "text", "content_hash"])
def test_members_are_of_one_task_and_backbone(tiny: Saved, field: str) -> None:
    about = tiny.about
    if field == "content_hash":
        about = about.changed(backbone=about.backbone.model_copy(update={field: "other"}))
    else:
        about = about.changed(**{field: "other" if field == "task" else ["no", "yes"]})
    with pytest.raises(SkipError, match="backbone" if field == "content_hash" else field):
        Cascade.of([Fixed(tiny.about, {}), Fixed(about, {})], [0.5])
    with pytest.raises(SkipError, match="thresholds"):
        Cascade.of([Fixed(tiny.about, {})] * 2, [])


def change_threshold(folder: Path) -> None:
    path = folder / CASCADE
    path.write_text(path.read_text().replace("0.6", "0.5"))


def swap_member(folder: Path) -> None:
    shutil.rmtree(folder / "members/1")
    shutil.copytree(folder / "members/0", folder / "members/1")


def lose_member(folder: Path) -> None:
    shutil.rmtree(folder / "members/0")


@pytest.mark.parametrize("damage", [change_threshold, swap_member, lose_member])
def test_a_damaged_folder_is_refused(folder: Path, damage) -> None:
    damage(folder)
    with pytest.raises(SkipError) as found:
        Cascade.load(folder)
    assert str(folder) in str(found.value) and "\n" not in str(found.value)


def test_a_cascade_of_exports_needs_no_torch(onnx_folder: Path, tmp_path: Path) -> None:
    member = OnnxSkill.load(onnx_folder)
    saved = Cascade.of([member, member], [0.9]).export(tmp_path / "cascade")
    code = f"""
import sys
from skip_exp.skill.cascade import open_classifier
cascade = open_classifier({str(saved)!r})
print([member.form for member in cascade.members], len(cascade.predict(["dull", "good"])))
assert not {{"torch", "transformers", "pandas"}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[0] == "['int8', 'int8'] 2", done.stderr
    assert export.main([str(onnx_folder), str(tmp_path / "again"), "--format", "onnx"]) == 2


@pytest.mark.slow  # two exports
def test_skills_are_exported_member_by_member(folder: Path, onnx_packages: None) -> None:
    cascade = Cascade.load(folder)
    out = folder.parent / "onnx"
    assert export.main([str(folder), str(out), "--format", "onnx"]) == 0
    exported = Cascade.load(out)
    assert [member.form for member in exported.members] == ["onnx", "onnx"]
    assert exported.thresholds == cascade.thresholds
    assert len(exported.predict(TEXTS)) == len(TEXTS)
