"""The jobs that a sweep file asks for, and which results answer them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skip_exp.cache.versions import job_code
from skip_exp.config import refusals
from skip_exp.config import schema as config
from skip_exp.config.schema import method_name
from skip_exp.errors import SkipError
from skip_exp.report.cells import comparable
from skip_exp.report.text import Found

SWEPT = ("task", "backbone", "prune.ratio", "seed")
PLAIN = "config"  # conf/config.yaml: a job of no sweep


class Job(NamedTuple):
    task: str
    backbone: str
    ratio: float
    seed: int


@dataclass(frozen=True)
class Grid:
    """A sweep over tasks, backbones, ratios and seeds."""

    name: str
    tasks: list[str]
    backbones: list[str]
    ratios: list[float]
    seeds: list[int]
    task_configs: dict[str, dict[str, Any]]  # by task
    settings: dict[tuple[str, str], tuple[str | None, dict[str, str]]]  # see `settings_of`

    @property
    def jobs(self) -> list[Job]:
        every = product(self.tasks, self.backbones, self.ratios, self.seeds)
        return [Job(*point) for point in every]

    def metric(self, task: str) -> str:
        """Name of a task's main metric."""
        names: Sequence[str] = self.task_configs[task]["metrics"]
        return next(iter(names), "-")

    def answers(self, found: Sequence[Found], source: str) -> list[Found]:
        """The results, done or failed, of the grid's jobs and settings on rows of ``source``.

        Those of another version of the code are among them where nothing newer is there: better
        than a hole, but :meth:`remaining` counts them, since the sweep does their jobs again.
        """
        jobs = set(self.jobs)
        mine = [
            each
            for each in found
            if _job(each) in jobs
            and self.settings[each["task"], each["backbone"]] == settings_of(each)
            and (each["status"] != "done" or _source(each) == source)
        ]
        current = {_job(each) for each in mine if is_current(each) and each["status"] == "done"}
        return [each for each in mine if is_current(each) or _job(each) not in current]

    def remaining(self, answers: Sequence[Found]) -> list[Job]:
        done = {_job(each) for each in answers if each["status"] == "done" and is_current(each)}
        return [job for job in self.jobs if job not in done]


def is_current(result: Found) -> bool:
    """Whether this version of the code computed a result, so that its job is not run again."""
    return (result.get("versions") or {}).get("code") == job_code()


def _source(result: Found) -> str:
    """``local``, ``hub`` or ``sample``."""
    return (
        "sample" if result.get("data_is_sample") else str(result.get("data_source")).split(":")[0]
    )


def _job(result: Found) -> Job | None:
    values: list[Any] = [result.get(name) for name in Job._fields]
    return None if None in values else Job(*values)


def settings_of(result: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """What else decides the numbers: the attribution method and the comparable config."""
    return result.get("attribution"), comparable(result.get("config") or {})


def sweep_dir() -> Path:
    """The folder ``sweeps``, beside ``conf`` in the source tree and in an installed package."""
    return config.conf_dir().with_name("sweeps")


def read(name: str, overrides: Sequence[str] = ()) -> Grid:
    """The grid of ``sweeps/<name>.yaml`` with further overrides of values it does not sweep.

    Raises:
        SkipError: the file sweeps over something else, or does not compose.
    """
    file = sweep_dir() / f"{name}.yaml"
    params = yaml.safe_load(file.read_text())["hydra"]["sweeper"]["params"]
    swept = {key.lstrip("+"): choices(value) for key, value in params.items()}
    if set(swept) != set(SWEPT):
        raise SkipError(f"{file}: must sweep over {', '.join(SWEPT)}; it has {', '.join(swept)}")
    for override in overrides:
        if override.lstrip("+").split("=")[0] in SWEPT:
            raise SkipError(f"{override}: {name} sweeps over it; run a sweep of your own instead")
    configs, settings, names = {}, {}, {}
    for task, backbone in product(swept["task"], swept["backbone"]):
        cfg = composed(name, [f"+task={task}", f"backbone={backbone}", *overrides])
        names[task], names[backbone] = cfg["task"]["name"], cfg["backbone"]["name"]
        key = names[task], names[backbone]
        configs[names[task]] = cfg["task"]
        method = method_name(cfg["attribution"]["_target_"])
        settings[key] = settings_of({"attribution": method, "config": cfg})
    return Grid(
        name=name,
        tasks=[names[task] for task in swept["task"]],
        backbones=[names[backbone] for backbone in swept["backbone"]],
        ratios=[float(ratio) for ratio in swept["prune.ratio"]],
        seeds=[int(seed) for seed in swept["seed"]],
        task_configs=configs,
        settings=settings,
    )


def choices(text: Any) -> list[str]:
    """The values of a swept key, as Hydra reads them: ``1,2,3``, ``[ffn],[ffn,heads]``."""
    override = OverridesParser.create().parse_override(f"key={text}")
    if not override.is_sweep_override():
        return [str(override.get_value_element_as_str())]
    return [str(value) for value in override.sweep_string_iterator()]


def composed(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved config of one job of sweep ``name`` (or PLAIN); its folder is not known yet."""
    config.register()
    search = f"hydra.searchpath=[file://{config.conf_dir()}]"
    folder = config.conf_dir() if name == PLAIN else sweep_dir()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            cfg = compose(name, overrides=[search, "output_dir=.", *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise SkipError(f"sweep {name}: {refusals.explain(error)}") from error
    found: Any = OmegaConf.to_container(cfg, resolve=True)
    return found
