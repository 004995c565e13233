"""Where an API key of W&B is found."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from skip_exp.logger import key

KEY = "0" * 40


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without keys."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("NETRC", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def entry(host: str) -> str:
    return f"machine {host} login user password {KEY}\n"


def serve_at(monkeypatch: pytest.MonkeyPatch, address: str, api_key: str | None = None) -> None:
    """W&B's settings name a server."""
    settings = SimpleNamespace(base_url=address, api_key=api_key)
    monkeypatch.setattr(wandb, "setup", lambda: SimpleNamespace(settings=settings))


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not key.has_key()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert key.has_key()
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", "token")
    assert key.has_key()


def test_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    serve_at(monkeypatch, "https://api.wandb.ai", KEY)
    assert key.has_key()


@pytest.mark.parametrize("host", ["api.wandb.ai", "api.forge.coreweave.com"])
def test_netrc_at_the_default_server(home: Path, host: str) -> None:
    if host != "api.wandb.ai" and "wandb.ai" in wandb.Settings().base_url:
        pytest.skip("this W&B knows the older name only")
    (home / ".netrc").write_text(entry("example.org"))
    assert not key.has_key()
    (home / ".netrc").write_text(entry(host))
    assert key.has_key()


def test_netrc_at_a_server_of_ones_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_at(monkeypatch, "http://wandb.example.org:8080")
    (home / ".netrc").write_text(entry("api.wandb.ai") + entry("wandb.example.org"))
    assert not key.has_key()
    (home / ".netrc").write_text(entry("wandb.example.org:8080"))
    assert key.has_key()


@pytest.mark.parametrize("name", [".netrc", "_netrc", "named"])
def test_the_file(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name == "named":
        (home / ".netrc").write_text("")
        monkeypatch.setenv("NETRC", "~/named")
        assert not key.has_key()
    (home / name).write_text(entry("api.wandb.ai"))
    assert key.has_key()


def test_an_unreadable_file_costs_a_warning(home: Path, caplog: Any) -> None:
    (home / ".netrc").write_text("machine\nnonsense here")
    assert not key.has_key()
    assert str(home / ".netrc") in caplog.text


def test_it_brings_in_no_torch() -> None:
    code = "import sys, skip_exp.logger.key; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
