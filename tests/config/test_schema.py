"""Everything in conf/ composes, fits the schema, and binds to the code that it names."""

import importlib
import inspect
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from skip_exp.config import compose as composing
from skip_exp.config import schema as config
from skip_exp.config import together
from skip_exp.config.compose import quoted
from skip_exp.config.keys import keys
from skip_exp.config.names import ALLOCATIONS, PROMPTS, READOUTS
from skip_exp.config.prune import Goal, PruneConfig, named_goal
from skip_exp.config.task import TaskConfig
from skip_exp.errors import ConfigError
from skip_exp.models.families.registry import FAMILIES
from skip_exp.models.prompts import PROMPTS as PROMPT_CLASSES
from skip_exp.models.readouts import READOUTS as READOUT_CLASSES
from skip_exp.pruning.allocate import ORDERS
from tests.helpers import toy

CONF = config.conf_dir()
SWEEPS = CONF.parent / "sweeps"
CHOICES = [path.relative_to(CONF).with_suffix("") for path in sorted(CONF.glob("*/*.yaml"))]
GROUPS = {"task", "backbone", "prompt", "attribution", "prune", "trainer", "logger", "experiment"}


@pytest.fixture(autouse=True)
def conf() -> Iterator[None]:
    config.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str) -> Any:
    if not any(override.startswith("+task=") for override in overrides):
        overrides = (*overrides, "+task=rte")
    return compose("config", [*overrides, "output_dir=here"])


def test_the_groups_are_the_ones_that_are_promised() -> None:
    assert {choice.parts[0] for choice in CHOICES} == GROUPS


def test_the_quick_way_of_other_tests_composes_the_same() -> None:
    """`toy.untyped`: groups once for all jobs, values and added keys after them."""
    given = ["experiment=lora", "prune.ratio=0.5", "+task=rte", "seed=7", "prompt=prefix"]
    given += ["+task.files.train=here.csv", "task.labels=[a,b]", "tune.lr=1e-2", "prune.ratio=0.6"]
    given += ["+attribution.options.depth=3", "output_dir=here"]
    asked = OmegaConf.to_container(compose("config", given))
    GlobalHydra.instance().clear()
    toy.untyped(*given, "tune.epochs=99")  # must not stay for the next
    quick: Any = OmegaConf.to_container(toy.untyped(*given))
    assert quick == asked
    assert quick["prune"]["ratio"] == 0.6 and quick["prompt"]["kind"] == "prefix"


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_choice_composes_and_leaves_nothing_open(choice: Path) -> None:
    group, name = choice.parts
    cfg = composed(f"{'+' if group == 'task' else ''}{group}={name}")
    OmegaConf.resolve(cfg)
    assert not OmegaConf.missing_keys(cfg)
    if group in ("task", "backbone"):
        assert cfg[group].name == name
    if group == "logger":
        assert cfg.logger.name == name
    if group == "prompt":
        assert cfg.prompt.kind == name


@pytest.mark.parametrize("sweep", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_composes_with_every_value(sweep: Path) -> None:
    GlobalHydra.instance().clear()
    search = f"hydra.searchpath=[file://{CONF}]"
    with initialize_config_dir(str(SWEEPS), version_base="1.3"):
        cfg = compose(sweep.stem, [search], return_hydra_config=True)
        assert cfg.hydra.mode == RunMode.MULTIRUN
    swept = {key: composing.choices(values) for key, values in cfg.hydra.sweeper.params.items()}
    # Every value, but not every combination, nor each task and seed.
    first = [f"{key}={swept.pop(key)[0]}" for key in ("+task", "seed") if key in swept]
    length = max(map(len, swept.values()))
    jobs = [
        [f"{k}={values[i % len(values)]}" for k, values in swept.items()] for i in range(length)
    ]
    for job in jobs:
        one = composing.composed(sweep.stem, [*first, *job])
        assert not OmegaConf.missing_keys(OmegaConf.create(one)), job


def bound(cfg: Any) -> inspect.BoundArguments:
    """The attribution function of ``cfg`` with its options, as the pipeline calls it."""
    module, _, name = cfg.attribution._target_.rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    return signature.bind("model", "batches", **cfg.attribution.options)


@pytest.mark.parametrize("method", [c.name for c in CHOICES if c.parts[0] == "attribution"])
def test_every_attribution_binds_to_its_function(method: str) -> None:
    assert {"model", "batches"} <= bound(composed(f"attribution={method}")).arguments.keys()


def test_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = composed()
    assert cfg.backbone.path == "embedded:minilm"
    assert (cfg.prune.ratio, cfg.prune.sites) == (0.5, ["ffn", "heads"])
    assert cfg.data.dir is None
    assert cfg.logger.name == "wandb" and cfg.sweep.skip_done
    monkeypatch.setenv("SKIP_EXP_DATA", "/somewhere")
    assert composed().data.dir == "/somewhere"


def test_an_experiment_changes_several_groups_and_yields_to_the_command_line() -> None:
    cfg = composed("experiment=paper", "attribution.samples=5", "prompt=prefix")
    assert cfg.backbone.name == "bert_base"
    assert (cfg.prompt.kind, cfg.attribution.samples) == ("prefix", 5)
    paper, uniform = composed("experiment=paper"), composed("experiment=paper", "prune=uniform")
    assert (paper.prompt.kind, paper.prune.allocation) == ("input", "global")
    assert uniform.prune.allocation == "uniform"


def test_the_attribution_of_the_paper_goes_with_every_backbone() -> None:
    paper, swept = composed("experiment=paper"), composed("attribution=paper")
    assert swept.attribution == paper.attribution
    assert (swept.backbone.name, swept.prompt.kind) == ("minilm", "prefix")
    assert swept.retune.train != paper.retune.train == "prompt_readout"
    a = swept.attribution
    assert a.samples == 20
    options = {"tokens": "max", "sign": "signed", "target": "probability", "at": "linears"}
    assert a.options == options


def test_conf_is_found_in_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (CONF / "config.yaml").is_file()
    package = tmp_path / "site-packages/skip_exp"
    (package / "conf").mkdir(parents=True)
    monkeypatch.setattr(config, "__file__", str(package / "config/schema.py"))
    assert config.conf_dir() == package / "conf"


def test_the_schema_knows_the_names_of_the_registries() -> None:
    needs = {name: readout.needs for name, readout in READOUT_CLASSES.items()}
    for family, names in READOUTS.items():
        has = FAMILIES[family].loaders
        assert names == tuple(name for name, need in needs.items() if need in has)
    assert FAMILIES.keys() == READOUTS.keys()
    assert tuple(PROMPT_CLASSES) == PROMPTS
    assert tuple(ORDERS) == ALLOCATIONS


def test_what_prune_asks_for_is_one_goal() -> None:
    assert PruneConfig(ratio=0).goal == Goal(ratio=0.0)
    assert PruneConfig(ratio=0.1 + 0.2).goal == Goal(ratio=0.3)
    assert named_goal({"ratio": 0.1 + 0.2}) == "0.3"
    assert PruneConfig(ratio="auto", max_drop=1.0).goal == Goal(max_drop=1.0)
    assert PruneConfig(target_speedup=2.0).goal == Goal(target_speedup=2.0)


REFUSED = """
prune.ratio=nan
prune.ratio=true
prune.ratio=half
prune.ratio=null
prune.ratio=auto
prune.ratio=-0.1
prune.sites=[mlp]
prune.allocation=best
prune.round_to=0
prune.target_speedup=0.5
prune.target_speedup=2 backbone.layers=3
prune.target_speedup=2 prune.ratio=auto prune.max_drop=1
prune.max_drop=1
tune.epochs=0
tune.batch=-8
tune.lr=inf
tune.warmup=6
tune.train=everything
tune.train=full
retune.train=full
tune.train=bias
retune.train=bias tune.train=lora
retune.rank=8 tune.train=lora tune.rank=4
retune.distill=2
retune.copies=-1
retune.budget=-1
prompt.length=5000
prompt.kind=softer
prompt.kind=none tune.train=prompt
prompt.kind=none backbone=t5_mini experiment=readout
prompt.kind=none backbone=t5_mini tune.train=none retune.train=prompt_readout
prompt.decoder=true
prompt.decoder=true backbone=t5_mini backbone.readout=head
prompt.decoder=true backbone=t5_mini prompt=input
prompt.init=random
data.max_length=2
data.max_length=100001
data.train_rows=0
data.source=web
seed=99999999999999
attribution.samples=0
attribution._target_=__main__.scores
prompt.kind=__main__.Own
attribution.options.tokens=maximum
task.validation=train
task.extra=[test,test]
task.words=[yes]
benchmark.repeats=0
trainer.accelerator=tpu9
trainer.devices=0
logger.name=tb
logger.mode=on
logger.project=team/mine
backbone.name=org/model
task.name=a/b
task.labels=[no,'']
task.text=[a,a]
backbone.layers=0
backbone.pooling=max
backbone.family=gpt
backbone.readout=mlm backbone=t5_mini
backbone.readout=seq2seq
"""


@pytest.mark.parametrize("line", REFUSED.split("\n")[1:-1])
def test_a_value_that_cannot_work_is_refused_by_its_key(line: str) -> None:
    GlobalHydra.instance().clear()
    key = line.partition("=")[0]
    with pytest.raises(ConfigError) as refused:
        together.job_config(toy.untyped(*reversed(line.split()), "+task=rte", "output_dir=here"))
    assert str(refused.value).startswith(f"{key}=")


def test_label_names_are_the_default_words() -> None:
    def words(*overrides: str) -> list[str]:
        GlobalHydra.instance().clear()
        given = ("+task=rte", "task.words=[]", "output_dir=here", *overrides)
        return together.job_config(toy.untyped(*given)).task.words

    names = ["entailment", "not_entailment"]
    assert words("backbone=t5_mini") == words("backbone.readout=mlm") == names
    assert words() == []


def test_every_key_has_a_sentence() -> None:
    every = list(keys(config.Config))
    assert len([one for one in every if not one.is_group]) <= 87
    for one in every:
        assert re.fullmatch(r"\S[^\n]+\.", one.sentence), one.name
    inherited = next(one for one in every if one.name == "retune.dropout")
    assert inherited.default is False and inherited.sentence


def test_the_page_of_keys_is_up_to_date() -> None:
    page = runpy.run_path(str(CONF.parent / "docs/conf.py"))["keys_page"]()
    assert (CONF.parent / "docs/keys.md").read_text("utf-8") == page


CLASSES = {
    "attribution": config.AttributionConfig,
    "backbone": config.BackboneConfig,
    "logger": config.LoggerConfig,
    "prompt": config.PromptConfig,
    "prune": PruneConfig,
    "task": TaskConfig,
    "trainer": config.TrainerConfig,
}


@pytest.mark.parametrize("group", CLASSES)
def test_defaults_stand_once(group: str) -> None:
    """In the schema; a choice of a group says what it changes."""
    defaults = OmegaConf.to_container(OmegaConf.structured(CLASSES[group]))
    for file in (CONF / group).glob("*.yaml"):
        choice = OmegaConf.to_container(OmegaConf.load(file))
        repeated = [key for key, value in choice.items() if defaults.get(key, ...) == value]
        assert not repeated, f"{file.name} repeats the schema's {', '.join(repeated)}"


@pytest.mark.parametrize(
    "text", ["a, b", "it's", r"a\b", r"\\server\new", r"ends\\", r"\'", "x=${y}", "", '"', "[1]"]
)
def test_hydra_reads_a_quoted_text_unchanged(text: str) -> None:
    override = OverridesParser.create().parse_override(f"key={quoted(text)}")
    assert override.value() == text
