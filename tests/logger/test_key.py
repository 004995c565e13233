"""Where W&B's API key is found."""

from pathlib import Path

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


def entry(key: str) -> str:
    host = wandb.Settings().base_url.partition("://")[2]
    return f"machine {host} login user password {key}\n"


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not key.has_key()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert key.has_key()


@pytest.mark.parametrize("name", [".netrc", "named"])
def test_the_netrc_file(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name == "named":
        monkeypatch.setenv("NETRC", str(home / name))
    (home / name).write_text(entry(KEY).replace("machine ", "machine other."))
    assert not key.has_key()
    (home / name).write_text(entry(KEY))
    assert key.has_key()


@pytest.mark.parametrize("content", [b"machine\nnonsense here", b"\xff\xfe\x00"])
def test_an_unreadable_netrc_file_is_no_key(home: Path, content: bytes) -> None:
    (home / ".netrc").write_bytes(content)
    assert not key.has_key()


def test_a_malformed_key_is_left_to_wandb_to_refuse(home: Path) -> None:
    (home / ".netrc").write_text(entry("short"))
    assert key.has_key()
