"""Every sweep of the studies composes, and says how it is run."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from skip_exp.config import schema
from skip_exp.config.compose import choices

SWEEPS = Path(__file__).resolve().parents[2] / "studies" / "sweeps"


@pytest.mark.parametrize("sweep", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sweep_composes_and_says_how_it_is_run(sweep: Path) -> None:
    text = sweep.read_text()
    head = text.split("defaults:")[0]
    assert f"--config-dir studies/sweeps --config-name {sweep.stem}\n" in head and "Cost:" in head
    hydra = yaml.safe_load(text)["hydra"]
    assert hydra["mode"] == "MULTIRUN"
    last = [f"{key}={choices(value)[-1]}" for key, value in hydra["sweeper"]["params"].items()]
    schema.register()
    search = f"hydra.searchpath=[file://{schema.conf_dir()}]"
    with initialize_config_dir(str(SWEEPS), version_base="1.3"):
        cfg = compose(sweep.stem, [search, "output_dir=.", *last])
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def test_every_task_composes() -> None:
    schema.register()
    with initialize_config_dir(str(schema.conf_dir()), version_base="1.3"):
        search = f"hydra.searchpath=[file://{SWEEPS}]"
        for task in SWEEPS.glob("task/*.yaml"):
            cfg = compose("config", [search, f"+task={task.stem}", "output_dir=."])
            assert cfg.task.name == task.stem
