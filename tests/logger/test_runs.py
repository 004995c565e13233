"""Which mode a W&B run is opened in."""

import pytest

from skip_exp.errors import ConfigError
from skip_exp.logger import key, runs


def test_auto_is_online_only_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(key, "has_key", lambda: False)
    assert runs._mode("auto") == "offline"
    with pytest.raises(ConfigError, match="online: needs an API key"):
        runs._mode("online")
    monkeypatch.setattr(key, "has_key", lambda: True)
    assert runs._mode("auto") == "online"
    assert runs._mode("offline") == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert runs._mode("auto") == "disabled"
