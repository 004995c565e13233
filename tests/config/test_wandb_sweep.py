"""What an agent of W&B would run: composed by the library's own functions, checked by ours."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps import utils

from skip_exp import results
from skip_exp.config import schema

SWEEPS = sorted((schema.conf_dir().parent / "sweeps" / "wandb").glob("*.yaml"))


def ends(parameter: dict[str, Any]) -> list[Any]:
    """The smallest and the largest value, or the first and the last."""
    values = parameter.get("values") or [parameter["min"], parameter["max"]]
    return [values[0], values[-1]]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
@pytest.mark.parametrize("end", [0, 1])
def test_an_agents_command_is_a_job(path: Path, end: int) -> None:
    sweep = yaml.safe_load(path.read_text())
    chosen = {name: ends(values)[end] for name, values in sweep["parameters"].items()}
    args = utils.create_sweep_command_args({"args": {k: {"value": v} for k, v in chosen.items()}})
    *command, last = utils.create_sweep_command(sweep["command"])
    assert command[:4] == ["${env}", "${interpreter}", "-m", "skip_exp"]
    assert last == "${args_no_hyphens}"
    schema.register()
    with initialize_config_dir(str(schema.conf_dir()), version_base="1.3"):
        overrides = [*command[4:], *args["args_no_hyphens"], "output_dir=here"]
        cfg = schema.to_object(compose("config", overrides), schema.Config)
    assert {name: OmegaConf.select(OmegaConf.structured(cfg), name) for name in chosen} == chosen
    assert cfg.logger.name == "wandb" and cfg.logger.mode == "online"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_it_chooses_on_the_selection_slice(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    summary = results.flatten(results.Result(select=results.Scores(dense=0.8, final=0.9)))
    assert sweep["metric"] == {"name": "select/final", "goal": "maximize"}
    assert summary[sweep["metric"]["name"]] == 0.9


def test_there_is_one() -> None:
    assert [path.stem for path in SWEEPS] == ["recipe"]
