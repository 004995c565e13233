"""The jobs that a sweep file asks for, and which results answer them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skip_exp.cache.versions import job_code
from skip_exp.config import refusals
from skip_exp.config import schema as config
from skip_exp.errors import SkipError
from skip_exp.report.cells import without
from skip_exp.report.frame import settings, settings_of

SWEPT = ("task", "backbone", "prune.ratio", "seed")
PLAIN = "config"  # conf/config.yaml: a job of no sweep
JOB = ["task", "backbone", "ratio", "seed"]


@dataclass(frozen=True)
class Grid:
    """A sweep over tasks, backbones, ratios and seeds."""

    name: str
    jobs: pd.DataFrame  # a row per job, columns JOB
    task_configs: dict[str, dict[str, Any]]  # by task
    settings: dict[tuple[str, str], dict[str, str]]  # by task and backbone: see `settings_of`

    def answers(self, results: pd.DataFrame, source: str) -> pd.DataFrame:
        """The results, done or failed, of the grid's jobs and settings on rows of ``source``.

        Those of another version of the code are among them where nothing newer is there: better
        than a hole, but :meth:`remaining` counts them, since the sweep does their jobs again.
        """
        placed = results.merge(self.jobs, on=JOB)
        rows = zip(placed["task"], placed["backbone"], settings(placed), strict=True)
        is_same = [self.settings[task, backbone] == values for task, backbone, values in rows]
        placed = placed[pd.Series(is_same, dtype=bool)]
        placed = placed[(placed["status"] != "done") | (placed["data"] == source)]
        newer = without(placed[~is_current(placed)], _finished(placed), JOB)
        return pd.concat([newer, placed[is_current(placed)]], ignore_index=True)

    def remaining(self, answers: pd.DataFrame) -> pd.DataFrame:
        """The jobs, as rows of JOB, that this version of the code has no finished result of."""
        return without(self.jobs, _finished(answers), JOB)


def is_current(frame: pd.DataFrame) -> pd.Series:
    """Whether this version of the code computed a result, so that its job is not run again."""
    return frame["versions/code"] == job_code()


def _finished(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[is_current(frame) & (frame["status"] == "done")]


def sweep_dir() -> Path:
    """The folder of the package's own sweep files."""
    return config.sweep_dir()


def parsed(name: str, folder: Path | None = None) -> dict[str, Any]:
    """``<name>.yaml`` of the package's sweeps, or of a ``folder`` of the user's own, as it stands.

    Raises:
        SkipError: no YAML, or not a mapping.
    """
    file = (folder or sweep_dir()) / f"{name}.yaml"
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SkipError(f"{file}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SkipError(f"{file}: must be a mapping, as the package's sweeps are")
    return content


def swept(name: str, folder: Path | None = None) -> dict[str, list[str]]:
    """What a sweep file sweeps over: {key: choices}, in the file's order; raises SkipError."""
    try:
        params = dict(parsed(name, folder)["hydra"]["sweeper"]["params"])
    except (KeyError, TypeError, ValueError) as error:
        file = (folder or sweep_dir()) / f"{name}.yaml"
        raise SkipError(f"{file}: hydra.sweeper.params: missing; name what is swept") from error
    try:
        return {key.lstrip("+"): choices(value) for key, value in params.items()}
    except HydraException as error:
        file = (folder or sweep_dir()) / f"{name}.yaml"
        raise SkipError(f"{file}: hydra.sweeper.params: {' '.join(str(error).split())}") from error


def read(name: str, overrides: Sequence[str] = ()) -> Grid:
    """The grid of ``sweeps/<name>.yaml`` with further overrides of values it does not sweep.

    Raises:
        SkipError: the file sweeps over something else, or does not compose.
    """
    values = swept(name)
    if set(values) != set(SWEPT):
        asked, has = ", ".join(SWEPT), ", ".join(values)
        raise SkipError(f"{sweep_dir() / name}.yaml: must sweep over {asked}; it has {has}")
    for override in overrides:
        if override.lstrip("+").split("=")[0] in SWEPT:
            raise SkipError(f"{override}: {name} sweeps over it; run a sweep of your own instead")
    names, task_configs, grid_settings = {}, {}, {}
    for task, backbone in product(values["task"], values["backbone"]):
        cfg = composed(name, [f"+task={task}", f"backbone={backbone}", *overrides])
        names[task], names[backbone] = cfg["task"]["name"], cfg["backbone"]["name"]
        task_configs[names[task]] = cfg["task"]
        grid_settings[names[task], names[backbone]] = settings_of(cfg)
    every = [
        (names[task], names[backbone], float(ratio), int(seed))
        for task, backbone, ratio, seed in product(*(values[key] for key in SWEPT))
    ]
    jobs = pd.DataFrame(every, columns=JOB).astype({"seed": "Int64"})
    return Grid(name, jobs, task_configs, grid_settings)


def choices(text: Any) -> list[str]:
    """The values of a swept key, as Hydra reads them: ``1,2,3``, ``[ffn],[ffn,heads]``."""
    override = OverridesParser.create().parse_override(f"key={text}")
    if not override.is_sweep_override():
        return [str(override.get_value_element_as_str())]
    return [str(value) for value in override.sweep_string_iterator()]


def composed(name: str, overrides: Sequence[str], own: Path | None = None) -> dict[str, Any]:
    """The resolved config of one job of sweep ``name`` (or PLAIN); its folder is not known yet.

    ``own``: the folder of a sweep file of the user's own.

    Raises:
        SkipError: it does not compose.
    """
    return composed_each(name, overrides, [[]], own)[0]


def composed_each(
    name: str, overrides: Sequence[str], further: Sequence[Sequence[str]], own: Path | None = None
) -> list[dict[str, Any]]:
    """As `composed`, one job per list of ``further`` overrides.

    What only replaces values is put into one composed job, as Hydra would: composing takes longer.
    """
    parser = OverridesParser.create()
    try:
        first, found = _composed(name, overrides, own), []
        for given in further:
            parsed = parser.parse_overrides([*given])
            if all(_is_value(first, each.key_or_group) for each in parsed):
                cfg = first.copy()
                for each in parsed:
                    OmegaConf.update(cfg, each.key_or_group, each.value())
            else:
                cfg = _composed(name, [*overrides, *given], own)
            found.append(OmegaConf.to_container(cfg, resolve=True))
    except (HydraException, OmegaConfBaseException) as error:
        raise SkipError(f"sweep {name}: {refusals.explain(error)}") from error
    return found  # type: ignore[return-value]


def _is_value(cfg: DictConfig, key: str) -> bool:
    value = OmegaConf.select(cfg, key)
    return value is not None and not isinstance(value, DictConfig)


def _composed(name: str, overrides: Sequence[str], own: Path | None) -> DictConfig:
    config.register()
    search = f"hydra.searchpath=[file://{config.conf_dir()}]"
    folder = config.conf_dir() if name == PLAIN else (own or sweep_dir()).resolve()
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose(name, overrides=[search, "output_dir=.", *overrides])
