"""What an agent of W&B would run: composed by the library's own functions, checked by ours."""

from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps import utils

from skip_exp import results
from skip_exp.config import schema

FOLDER = schema.conf_dir().parent / "sweeps" / "wandb"
SWEEP = yaml.safe_load((FOLDER / "recipe.yaml").read_text())


def ends(parameter: dict[str, Any]) -> list[Any]:
    """The smallest and the largest value, or the first and the last."""
    values = parameter.get("values") or [parameter["min"], parameter["max"]]
    return [values[0], values[-1]]


@pytest.mark.parametrize("end", [0, 1])
def test_an_agents_command_is_a_job(end: int) -> None:
    assert [path.name for path in FOLDER.glob("*.yaml")] == ["recipe.yaml"]
    chosen = {name: ends(values)[end] for name, values in SWEEP["parameters"].items()}
    args = utils.create_sweep_command_args({"args": {k: {"value": v} for k, v in chosen.items()}})
    *command, last = utils.create_sweep_command(SWEEP["command"])
    assert command[:4] == ["${env}", "${interpreter}", "-m", "skip_exp"]
    assert last == "${args_no_hyphens}"
    schema.register()
    with initialize_config_dir(str(schema.conf_dir()), version_base="1.3"):
        overrides = [*command[4:], *args["args_no_hyphens"], "output_dir=here"]
        cfg = schema.to_object(compose("config", overrides), schema.Config)
    assert {name: OmegaConf.select(OmegaConf.structured(cfg), name) for name in chosen} == chosen
    assert cfg.logger.name == "wandb" and cfg.logger.mode == "online"


def test_it_chooses_on_the_selection_slice() -> None:
    summary = results.flatten(results.Result(select=results.Scores(dense=0.8, final=0.9)))
    assert SWEEP["metric"] == {"name": "select/final", "goal": "maximize"}
    assert summary[SWEEP["metric"]["name"]] == 0.9
