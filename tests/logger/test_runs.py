"""Which mode a W&B run is opened in, and what it is filed under."""

import pytest
from hydra import compose, initialize_config_dir

from skip_exp.config import schema
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


@pytest.mark.parametrize(
    ("override", "job_type"),
    [
        ("prune.ratio=0.5", "prune"),
        ("prune.target_speedup=2", "prune"),
        ("prune.ratio=0", "dense_continued"),
        ("experiment=readout", "baseline"),
        ("experiment=finetune", "baseline"),
    ],
)
def test_job_type(override: str, job_type: str) -> None:
    schema.register()
    with initialize_config_dir(str(schema.conf_dir()), version_base="1.3"):
        composed = compose("config", ["+task=rte", "output_dir=here", override])
    assert runs.job_type(schema.typed(composed, schema.Config)) == job_type
