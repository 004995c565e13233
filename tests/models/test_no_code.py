"""Code that comes with a backbone is never run, and nobody is asked whether it may be."""

import json
import shutil
from pathlib import Path

import pytest

from skip_exp.errors import SkipError
from skip_exp.models.backbones import load_backbone, skeleton
from skip_exp.skill.export import export
from skip_exp.skill.skill import Skill
from tests.helpers.saved import save_backbone, save_tiny_skill


def with_code(folder: Path, model_type: str | None = None) -> Path:
    """A backbone whose files name classes of their own; reading them leaves a mark."""
    (folder / "mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\n")
    classes = {"AutoConfig": "mine.C", "AutoModel": "mine.M", "AutoModelForMaskedLM": "mine.M"}
    for name, own in (
        ("config.json", classes),
        ("tokenizer_config.json", {"AutoTokenizer": ["mine.T", "mine.T"]}),
    ):
        content = json.loads((folder / name).read_text()) | {"auto_map": own}
        if model_type:
            content |= {"model_type": model_type, "tokenizer_class": "MyTokenizer"}
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))


@pytest.mark.usefixtures("nobody_answers")
@pytest.mark.parametrize("readout", ["head", "mlm"])
def test_code_in_a_folder_is_passed_over_where_the_model_is_known(
    tmp_path: Path, readout: str
) -> None:
    folder = save_backbone(tmp_path / "plain", "bert")
    code = with_code(shutil.copytree(folder, tmp_path / "code"))
    plain, own = (load_backbone("b", str(path), "bert", readout) for path in (folder, code))
    assert own.content_hash == plain.content_hash
    skeleton(own.model.config.to_dict(), "bert", readout)
    assert not (code / "ran").exists()


@pytest.mark.usefixtures("nobody_answers")
def test_a_model_that_is_nothing_but_code_is_refused(tmp_path: Path) -> None:
    folder = with_code(save_backbone(tmp_path, "bert"), "my_bert")
    with pytest.raises(SkipError, match=r"^backbone.path=.*custom code") as refused:
        load_backbone("b", str(folder), "bert", "head")
    assert "\n" not in str(refused.value) and "trust_remote_code" not in str(refused.value)
    assert not (folder / "ran").exists()


@pytest.mark.usefixtures("nobody_answers")
def test_code_beside_an_exported_skill_is_never_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(Skill.load(save_tiny_skill(tmp_path).folder), out, "safetensors")
    about = json.loads((out / "tokenizer_config.json").read_text())
    mine = {"auto_map": {"AutoTokenizer": ["mine.T", None]}, "tokenizer_class": "MyTokenizer"}
    (out / "tokenizer_config.json").write_text(json.dumps(about | mine))
    (out / "mine.py").write_text(f"open({str(out / 'ran')!r}, 'w').close()\n")
    with pytest.raises(SkipError, match="custom code") as refused:
        Skill.load(out)
    assert "\n" not in str(refused.value)
    assert not (out / "ran").exists()
