"""Task files, and what an agent of W&B would run: both are jobs."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from skip_exp import results
from skip_exp.config import schema
from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import to_object
from skip_exp.data.given import build_texts, columns_of
from skip_exp.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf" / "task"
BASE = {"name": "toy", "text": ["s"], "labels": ["no", "yes"], "metrics": ["accuracy"]}


def test_defaults_and_derived_values() -> None:
    described = BASE | {"text": ["{w}: {s}", "{w}: {t}"], "extra": ["more"]}
    spec = to_object(described, TaskConfig)
    assert (spec.num_labels, spec.label) == (2, "label")
    assert spec.splits == ("train", "validation", "more")
    assert columns_of(spec.text, "t", "u") == ["w", "s", "t", "u"]
    assert spec == to_object(OmegaConf.create(described), TaskConfig)


def test_templates_fill_plain_columns_only() -> None:
    row = {"word": "bank", "s.1": "the {word} shut", "s": "x"}
    assert build_texts(row, ["{word}: {s.1}", "s"]) == ["bank: the {word} shut", "x"]
    assert columns_of(["{word}: {s.1}", "s"]) == ["word", "s.1", "s"]


def test_one_of_two_columns_may_be_empty() -> None:
    mail = {"subject": None, "body": "it broke"}
    assert build_texts(mail, ["subject", "body"]) == ["", "it broke"]
    assert build_texts(mail, ["{subject}: {body}"]) == [": it broke"]
    for entries in (["subject"], ["subject", "subject"]):
        with pytest.raises(ValueError, match="empty"):
            build_texts(mail, entries)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"text": ["a", "b", "c"]}, "text=['a', 'b', 'c']"),
        ({"text": []}, "text=[]"),
        ({"labels": ["no"]}, "labels=['no']"),
        ({"labels": ["no", "no"]}, "labels=['no', 'no']"),
        ({"words": ["no"]}, "words=['no']"),
        ({"labels": ["no", "a\n# b"]}, r"labels=['no', 'a\n# b']"),
        ({"metrics": ["accuracy", "bleu"]}, "metrics=['accuracy', 'bleu']"),
        ({"metrics": []}, "metrics=[]"),
        ({"labels": ["a", "b", "c"], "metrics": ["f1"]}, "metrics=f1"),
        ({"hub": {"name": "rte"}}, "hub={'name': 'rte'}"),
        ({"files": {"train": "t.csv", "valid": "v.csv"}}, "files=valid"),
    ],
)
def test_refusals(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        to_object(BASE | changes, TaskConfig)
    assert str(refused.value).startswith(f"task.{says}: ")
    assert "\n" not in str(refused.value)


def test_every_task_file_describes_a_task_that_its_file_name_names() -> None:
    for path in CONF.glob("*.yaml"):
        assert to_object(OmegaConf.load(path), TaskConfig).name == path.stem


@pytest.mark.parametrize("key", ["labels", "words"])
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("[yes, no]", "[True, False]"),
        ("[good, off]", "['good', False]"),
        ("[010, 1.50]", "[8, 1.5]"),
        ("[null, some]", "[None, 'some']"),
        ("[[a], b]", "[['a'], 'b']"),
        ('["1", "no"]', None),
    ],
)
def test_what_yaml_reads_as_no_text_must_stand_in_quotes(
    key: str, written: str, read: str | None
) -> None:
    given = OmegaConf.merge(BASE, OmegaConf.create(f"{key}: {written}"))
    if read is None:
        assert getattr(to_object(given, TaskConfig), key) == ["1", "no"]
        return
    with pytest.raises(ConfigError) as refused:
        to_object(given, TaskConfig)
    assert str(refused.value).startswith(f"task.{key}={read}: ")


FOLDER = schema.conf_dir().parent / "sweeps" / "wandb"
SWEEP = yaml.safe_load((FOLDER / "recipe.yml").read_text())


def ends(parameter: dict[str, Any]) -> list[Any]:
    """The smallest and the largest value, or the first and the last."""
    values = parameter.get("values") or [parameter["min"], parameter["max"]]
    return [values[0], values[-1]]


@pytest.mark.parametrize("end", [0, 1])
def test_an_agents_command_is_a_job(end: int) -> None:
    from wandb.sdk.launch.sweeps import utils  # takes a second, of each of two workers

    assert [path.name for path in FOLDER.iterdir()] == ["recipe.yml"]
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
    assert cfg.logger.name == "wandb"


def test_it_chooses_on_the_selection_slice() -> None:
    summary = results.flatten(results.Result(select=results.Scores(dense=0.8, final=0.9)))
    assert summary[SWEEP["metric"]["name"]] == 0.9
