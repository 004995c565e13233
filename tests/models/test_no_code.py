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


def test_code_in_a_folder_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is passed over where the model is known; one that is nothing but code is refused."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    folder = save_backbone(tmp_path / "plain", "bert")
    code = with_code(shutil.copytree(folder, tmp_path / "code"))
    for readout in ("head", "mlm"):
        plain, own = (load_backbone("b", str(path), "bert", readout) for path in (folder, code))
        assert own.content_hash == plain.content_hash
    unknown = with_code(shutil.copytree(folder, tmp_path / "unknown"), "my_bert")
    with pytest.raises(SkipError, match=r"^backbone\.path=") as refused:
        load_backbone("b", str(unknown), "bert", "head")
    assert "\n" not in str(refused.value) and "trust_remote_code" not in str(refused.value)
    assert not list(tmp_path.glob("*/ran"))
