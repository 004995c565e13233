"""The model card says what is known of a skill and its job, and nothing else."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from skip_exp import Skill, results
from skip_exp.backbones.load import load_backbone
from skip_exp.commands.export import main
from skip_exp.skill.export import card
from skip_exp.skill.files import job_result
from tests.helpers.saved import Saved, save_tiny_skill, tell

RESULT: Any = {
    "skill": "skill",
    "majority": {"accuracy": 0.509},
    "metrics": {"accuracy": {"dense": 0.8475, "pruned": 0.7, "final": 0.83371}},
    "params": {"block_pruned": 0.7},
    "config": {"task": {"hub": {"path": "nyu-mll/glue", "name": "sst2"}, "validation": "dev"}},
}


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """A finished job: its skill and result."""
    load_backbone.cache_clear()
    made = save_tiny_skill(tmp_path)
    tell(made, data="hub:nyu-mll/glue/sst2")
    results.write(tmp_path, results.Result(**RESULT))
    return made


def exported(saved: Saved) -> ModelCard:
    """The card in the folder that is exported."""
    out = saved.folder.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    assert main([str(saved.folder), str(out), "--format", "hf"]) == 0
    return ModelCard.load(out / "README.md")


def made_of(saved: Saved, about: Any = None, **how: Any) -> ModelCard:
    skill = Skill.load(saved.folder)
    return card.model_card(about or skill.about, skill.model, skill.folder, **how)


def test_the_card_tells_what_the_job_found(saved: Saved) -> None:
    found = exported(saved)
    data = found.data.to_dict()
    assert data["datasets"] == ["nyu-mll/glue"] and data["pipeline_tag"] == "text-classification"
    assert "pruned" in data["tags"]
    for fact in (
        "| accuracy | 0.848 | 0.834 | 0.509 |",
        "nyu-mll/glue/sst2",
        "`negative`, `positive`",
        "70%",
        f"{sum(p.numel() for p in Skill.load(saved.folder).model.parameters()):,} parameters",
    ):
        assert fact in found.content, fact
    assert not re.search(r"\n\n\n|[{}]{2}|None", found.content)


def names_no_folder(out: Path, *folders: str) -> bool:
    """Whether no file of an export names one of ``folders``, nor the user's or the package's."""
    private = (*folders, os.path.expanduser("~/"), str(Path(card.__file__).parents[4]))
    contents = [path.read_bytes() for path in out.iterdir()]
    return not any(folder.encode() in content for folder in private for content in contents)


def test_without_the_job_only_the_skill_speaks(saved: Saved) -> None:
    """Nor is a result of another skill taken, or a folder of the user's named."""
    moved = saved.folder.rename(saved.folder.with_name("other"))
    assert job_result(moved) == {} and job_result(None) == {}
    moved.rename(saved.folder)
    (saved.folder.parent / "result.json").unlink()
    tell(saved, data="local:/home/somebody/data")
    found = exported(saved)
    assert "| 0.500 |" in found.content and "pruned" not in found.data.tags
    assert names_no_folder(saved.folder.parent / "out", "/home/somebody", str(saved.backbone))
    tell(saved, data="embedded:snli_pairs")
    assert "Stand-in" in exported(saved).content


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("embedded:minilm", ("sentence-transformers/all-MiniLM-L6-v2", "apache-2.0")),
        ("embedded:t5_mini", (None, "mit")),
        ("FacebookAI/roberta-base", ("FacebookAI/roberta-base", None)),
        ("somebody/model", ("somebody/model", None)),
        ("/home/somebody/model", (None, None)),
    ],
)
def test_id_and_licence_of_a_backbone(saved: Saved, path: str, expected: Any) -> None:
    backbone = saved.about.backbone.model_copy(update={"path": path})
    assert card.backbone_origin(saved.about.changed(backbone=backbone)) == expected


@pytest.mark.parametrize(
    ("start", "its_licence"), [(None, ""), ("skip_exp/nli", "cc-by-sa-4.0"), ("nli", "unknown")]
)
@pytest.mark.parametrize("licence", [None, "mit"])
def test_the_licence_is_the_owners_and_those_of_its_parts_are_told(
    saved: Saved, start: str | None, its_licence: str, licence: str | None
) -> None:
    backbone = saved.about.backbone.model_copy(update={"path": "embedded:minilm"})
    made = made_of(saved, saved.about.changed(start=start, backbone=backbone), license=licence)
    assert made.data.to_dict().get("license") == licence
    text = made.text
    assert "apache-2.0" in text and its_licence in text and (licence or "owner") in text
    assert (str(start) in text) == (start is not None)


def test_an_8_bit_export_says_so(saved: Saved) -> None:
    assert "8-bit" in made_of(saved, onnx=True, int8=True).content


def test_names_are_no_markup(saved: Saved) -> None:
    about = saved.about.changed(task="[t](x)\n# t", labels=["<img src=x>\n# head", "a|b`c`"])
    text = made_of(saved, about).content.partition("---\n\n#")[2]
    assert "\n# " not in text and "`[t](x) # t`" in text
    assert "`<img src=x> # head`, `a|b'c'`" in text


def test_an_onnx_export_names_no_folder(tiny: Saved, onnx_folder: Path) -> None:
    assert names_no_folder(onnx_folder, str(tiny.backbone), str(onnx_folder.parent))


def test_its_code_loads_the_folder(onnx_folder: Path) -> None:
    text = (onnx_folder / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, place := {"FOLDER": str(onnx_folder)})
    assert place["skill"].about.task == "toy"
