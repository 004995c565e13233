"""Everything in conf/ composes and fits the schema."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal import config_loader_impl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from skip_exp.config import schema as config
from skip_exp.config import together
from skip_exp.config.checks import ALLOCATIONS, PROMPTS, READOUTS, keys
from skip_exp.config.compose import choices, quote
from skip_exp.config.compose import compose_config as composed_in_python
from skip_exp.config.groups import PruneConfig, TaskConfig, name_goal
from skip_exp.errors import ConfigError
from skip_exp.models.families import FAMILIES
from skip_exp.models.prompts import PROMPT_CLASSES
from skip_exp.models.readouts import READOUT_CLASSES
from skip_exp.pruning.allocate import ORDERS
from tests.helpers import composing, toy

CONF = config.conf_dir()
SWEEPS = CONF.parent / "sweeps"
CHOICES = [path.relative_to(CONF).with_suffix("") for path in sorted(CONF.glob("*/*.yaml"))]


@pytest.fixture
def conf() -> Iterator[None]:
    config.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str) -> Any:
    if not any(override.startswith("+task=") for override in overrides):
        overrides = (*overrides, "+task=rte")
    return compose("config", [*overrides, "output_dir=here"])


def job(*overrides: str) -> config.Config:
    """The typed and checked configuration of a job on RTE."""
    return toy.composed("+task=rte", "output_dir=here", *overrides)


@pytest.mark.usefixtures("conf")
def test_the_quick_ways_of_other_tests_compose_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups once for all jobs, values and added keys after them."""
    given = ["experiment=lora", "prune.ratio=0.5", "+task=rte", "seed=7", "prompt=prefix"]
    given += ["+task.files.train=here.csv", "task.labels=[a,b]", "tune.lr=1e-2", "prune.ratio=0.6"]
    given += ["+attribution.options.depth=3", "output_dir=here"]
    with monkeypatch.context() as plain:
        plain.setattr(config_loader_impl, "create_defaults_list", composing.CREATE)
        asked = OmegaConf.to_container(compose("config", given))
    for _ in range(2):
        compose("config", [*given, "tune.epochs=99"])  # must not stay for the next
        assert OmegaConf.to_container(compose("config", given)) == asked
    GlobalHydra.instance().clear()
    toy.untyped(*given, "tune.epochs=99")  # must not stay for the next
    quick: Any = OmegaConf.to_container(toy.untyped(*given))
    assert quick == asked
    assert quick["prune"]["ratio"] == 0.6 and quick["prompt"]["kind"] == "prefix"


def sets_of_choices() -> list[list[str]]:
    """Every choice of a group: groups together, but those that change others alone.

    Experiments are composed as recipes, below.
    """
    names: dict[str, list[str]] = {}
    for group, name in (choice.parts for choice in CHOICES):
        names.setdefault(group, []).append(name)
    del names["experiment"]
    alone = ("debug", "hparams_search", "trainer")
    found = [[f"{group}={name}"] for group in alone for name in names.pop(group)]
    for i in range(max(map(len, names.values()))):
        found.append([f"{group}={each[i % len(each)]}" for group, each in names.items()])
    return found


@pytest.mark.usefixtures("conf")
@pytest.mark.parametrize("chosen", sets_of_choices(), ids=" ".join)
def test_every_choice_composes_and_leaves_nothing_open(chosen: list[str]) -> None:
    if chosen[0].startswith("hparams_search"):
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    cfg = composed(*(each.replace("task=", "+task=") for each in chosen))
    OmegaConf.resolve(cfg)
    assert not OmegaConf.missing_keys(cfg)
    for group, name in (each.split("=") for each in chosen):
        assert group not in ("task", "backbone", "logger") or cfg[group].name == name
        assert group != "prompt" or cfg.prompt.kind == name


@pytest.mark.parametrize("sweep", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_composes(sweep: Path) -> None:
    """With its first values and with its last."""
    search = f"hydra.searchpath=[file://{CONF}]"
    with initialize_config_dir(str(SWEEPS), version_base="1.3"):
        cfg = compose(sweep.stem, [search], return_hydra_config=True)
        assert cfg.hydra.mode == RunMode.MULTIRUN
    swept = {key: choices(values) for key, values in cfg.hydra.sweeper.params.items()}
    for end in (0, -1):
        point = [f"{key}={values[end]}" for key, values in swept.items()]
        together.job_config(composed_in_python(sweep.stem, point))


# --- recipes ------------------------------------------------------------------------------------

ABSENT = {  # what a job may do without; nothing else is null
    *("task.start", "tune.start"),
    *("prune.within", "prune.layers"),
    *("data.dir", "data.train_rows", "data.sep", "task.group", "sweep.id"),
    *("logger.project", "logger.entity", "logger.group", "logger.notes"),
}
RECIPES = [choice.name for choice in CHOICES if choice.parts[0] == "experiment"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_concrete(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the rows are: each number stands in its file or in the schema."""
    monkeypatch.delenv("SKIP_EXP_DATA", raising=False)
    cfg = OmegaConf.structured(job(f"experiment={recipe}"))
    names = [key.name for key in keys(config.Config) if not key.is_group]
    values = {name: OmegaConf.select(cfg, name) for name in names}
    assert {name for name, value in values.items() if value is None} <= ABSENT
    groups = ("prompt", "tune", "attribution", "prune", "retune")
    assert not [n for n, value in values.items() if n.startswith(groups) and value == "auto"]


@pytest.mark.parametrize(
    ("asked", "train", "rank"),
    [
        ([], "gates", 8),
        (["tune.train=prompt_readout", "retune.train=lora"], "lora", 8),
        (["tune.train=lora", "tune.rank=4"], "lora", 4),
        (["tune.train=full"], "full", 8),
        (["experiment=strong"], "layers", 8),
        (["experiment=compress"], "layers", 8),
        (["experiment=paper"], "prompt_readout", 8),
        (["tune.train=prompt", "retune.train=bias"], "bias", 8),
    ],
)
def test_retune_follows_tune_unless_it_is_told_otherwise(
    asked: list[str], train: str, rank: int
) -> None:
    retune = job(*asked).retune
    assert (retune.train, retune.rank) == (train, rank)


def test_a_backbone_is_found_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert job("backbone.path=mine").backbone.path == str(tmp_path / "mine")


def test_tune_starts_from_the_skill_of_its_task() -> None:
    starts = [[], ["tune.start=null"], ["tune.start=mine"], ["experiment=paper"], ["task.start=x"]]
    assert [job(*asked).tune.start for asked in starts] == ["nli", None, "mine", None, "x"]


@pytest.mark.usefixtures("conf")
def test_the_environment_names_the_folder_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP_EXP_DATA", "/somewhere")
    assert composed().data.dir == "/somewhere"


@pytest.mark.usefixtures("conf")
def test_an_experiment_changes_several_groups_and_yields_to_the_command_line() -> None:
    paper = composed("experiment=paper")
    mine = composed("experiment=paper", "attribution.samples=5", "prompt=prefix", "prune=uniform")
    assert paper.backbone.name == mine.backbone.name == "bert_base"
    assert (paper.prompt.kind, paper.prune.allocation) == ("input", "global")
    assert (mine.prompt.kind, mine.prune.allocation) == ("prefix", "uniform")
    assert (paper.attribution.samples, mine.attribution.samples) == (20, 5)
    swept = composed("attribution=paper")  # goes with every backbone
    assert swept.attribution == paper.attribution
    assert (swept.backbone.name, swept.prompt.kind) == ("minilm", "prefix")


# --- values -------------------------------------------------------------------------------------


def test_the_schema_knows_the_names_of_the_registries() -> None:
    needs = {name: readout.needs for name, readout in READOUT_CLASSES.items()}
    for family, names in READOUTS.items():
        has = FAMILIES[family].loaders
        assert names == tuple(name for name, need in needs.items() if need in has)
    assert FAMILIES.keys() == READOUTS.keys()
    assert tuple(PROMPT_CLASSES) == PROMPTS
    assert tuple(ORDERS) == ALLOCATIONS


@pytest.mark.parametrize(
    ("asked", "ratio", "name"),
    [
        ({"ratio": 0}, 0.0, "0"),
        ({"ratio": 0.1 + 0.2}, 0.3, "0.3"),
        ({"within": 1.0}, None, "within1"),
        ({"ratio": 0.9, "layers": 3}, 0.9, "0.9-3layers"),
        ({"within": 1.0, "layers": 3}, None, "within1-3layers"),
    ],
)
def test_what_prune_asks_for_is_one_goal(
    asked: dict[str, Any], ratio: float | None, name: str
) -> None:
    assert PruneConfig(**asked).given_ratio == ratio
    assert name_goal({"ratio": 0.5} | asked) == name


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (["prune.within=4", "prune.ratio=0.9"], "prune.within=4.0: "),
        (["prune.within=1", "prune.ratio=0.9"], "prune.within=1.0: "),
        (["retune.copies=2", "retune.distill=0"], "retune.copies=2: "),
        (["retune.copies=2", "retune.enabled=false"], "retune.copies=2: "),
        (["retune.copies=0", "retune.distill=0"], None),
        (["retune.enabled=false"], None),  # copies by default are no mistake
        (["prune.within=null", "prune.ratio=0.9"], None),
    ],
)
def test_a_value_of_the_command_that_would_be_ignored_is_refused(
    given: list[str], refused: str | None
) -> None:
    cfg = job(*given)
    if refused is None:
        together.check_given(cfg, given)
        return
    with pytest.raises(ConfigError) as error:
        together.check_given(cfg, given)
    assert str(error.value).startswith(refused)


REFUSED = """
prune.ratio=nan
prune.ratio=1.0
prune.ratio=-0.1
prune.sites=[mlp]
prune.allocation=best
prune.round_to=0
prune.layers=0
prune.within=-1
prune.within=nan
prune.within=101
tune.epochs=0
tune.min_steps=-1
tune.batch=-8
tune.lr=inf
tune.full_lr=-1
tune.warmup=6
tune.train=everything
retune.train=full tune.train=lora
retune.train=prompt_readout tune.train=full
retune.train=prompt_readout tune.train=gates
tune.train=none retune.enabled=false
retune.train=none backbone.readout=classifier tune.train=none
retune.train=bias tune.train=lora
retune.rank=8 tune.train=lora tune.rank=4
retune.distill=2
retune.copies=-1
retune.budget=-1
retune.budget=inf
retune.budget=nan
prompt.length=5000
prompt.kind=softer
prompt.kind=none tune.train=prompt
prompt.kind=none backbone=t5_mini experiment=readout
prompt.kind=none backbone=t5_mini tune.train=none retune.train=prompt_readout
prompt.init=random
data.max_length=2
data.max_length=100001
data.train_rows=0
data.source=web
seed=99999999999999
attribution.samples=0
attribution._target_=__main__.scores
attribution.options.tokens=maximum
task.validation=train
task.extra=[test,test]
task.words=[yes]
benchmark.repeats=0
trainer.accelerator=tpu9
logger.name=tb
backbone.name=org/model
task.name=a/b
task.labels=[no,'']
task.text=[a,a]
backbone.pooling=max
backbone.family=gpt
backbone.readout=mlm backbone=t5_mini
backbone.readout=seq2seq
"""


@pytest.mark.parametrize("line", REFUSED.split("\n")[1:-1])
def test_a_value_that_cannot_work_is_refused_by_its_key(line: str) -> None:
    key = line.partition("=")[0]
    with pytest.raises(ConfigError) as refused:
        job(*reversed(line.split()))
    assert str(refused.value).startswith(f"{key}=")


def test_label_names_are_the_default_words() -> None:
    def words(*overrides: str) -> list[str]:
        return job("task.words=[]", *overrides).task.words

    names = ["entailment", "not_entailment"]
    assert words("backbone=t5_mini") == words("backbone.readout=mlm") == names
    assert words() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, "nonsense") for key in ("tokens", "sign", "target", "at")),
        *((key, value) for key in ("steps", "micro_batch") for value in (0, 1.5, "many")),
        *(("temperature", value) for value in (0, -1, float("nan"), "warm")),
        ("norm", 3),
    ],
)
def test_an_option_of_a_method_that_is_not_allowed_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^attribution\.options\.{key}={value}: "):
        config.AttributionConfig("skip_exp.attribution.fisher.scores", options={key: value})


@pytest.mark.parametrize("given", ["metric/final", ["select/final", "nope"], 5])
def test_an_objective_is_a_field_that_may_be_chosen_by(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"^sweep\.objective="):
        config.SweepConfig(objective=given)


def test_a_timed_objective_needs_the_benchmark() -> None:
    timed = "sweep.objective=[select/final,latency/speedup]"
    assert job(timed).sweep.objective == ["select/final", "latency/speedup"]
    with pytest.raises(ConfigError, match=r"^sweep\.objective=latency/speedup: "):
        job(timed, "benchmark.enabled=false")


def test_every_key_has_a_sentence() -> None:
    every = list(keys(config.Config))
    assert len([one for one in every if not one.is_group]) <= 99
    for one in every:
        assert re.fullmatch(r"\S[^\n]+\.", one.sentence), one.name
    inherited = next(one for one in every if one.name == "retune.dropout")
    assert inherited.default is False and inherited.sentence


def test_the_page_of_keys_has_every_key() -> None:
    page = runpy.run_path(str(CONF.parent / "docs/conf.py"))["keys_page"]()
    every = [each for each in keys(config.Config) if not each.is_group]
    retune = [each for each in every if each.name.startswith("retune.")]
    assert all(f"`{each.name}`" in page for each in every if each not in retune)


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
        choice = choice.get(group, choice)  # of a file that sets other keys, too
        repeated = [key for key, value in choice.items() if defaults.get(key, ...) == value]
        assert not repeated, f"{file.name} repeats the schema's {', '.join(repeated)}"


ODD = ["a, b", "it's", r"a\b", r"\\server\new", r"ends\\", r"\'", "x=${y}", "", '"', "[1]"]
ODD += ["null", "True", "NaN", "inf", "1e3", "1_000", ".5", "-1", "~"]
BARE = ["a", "_1", "e5", "infinite", "a.b-c_2", "/a/b.c-2/"]


@pytest.mark.parametrize("text", [*ODD, *BARE])
def test_hydra_reads_a_quoted_text_unchanged(text: str) -> None:
    override = OverridesParser.create().parse_override(f"key={quote(text)}")
    assert override.value() == text
    assert (quote(text) == text) == (text in BARE)
