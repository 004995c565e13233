"""Code that comes with a backbone is never run, and nobody is asked whether it may be."""

import json
import shutil
from pathlib import Path

import pytest

from skip_exp.errors import SkipError
from skip_exp.models.backbones import load_backbone
from tests.helpers.saved import save_backbone


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
    assert not (code / "ran").exists()


@pytest.mark.usefixtures("nobody_answers")
def test_a_model_that_is_nothing_but_code_is_refused(tmp_path: Path) -> None:
    folder = with_code(save_backbone(tmp_path, "bert"), "my_bert")
    with pytest.raises(SkipError, match=r"^backbone\.path=") as refused:
        load_backbone("b", str(folder), "bert", "head")
    assert "\n" not in str(refused.value) and "trust_remote_code" not in str(refused.value)
    assert not (folder / "ran").exists()
