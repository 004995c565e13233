"""The jobs that a sweep file asks for, and which results answer them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import pandas as pd
import yaml
from omegaconf import OmegaConf

from skip_exp import results
from skip_exp.cache.version import job_code, parts_code
from skip_exp.config import schema as config
from skip_exp.config.compose import choices, composed
from skip_exp.config.prune import DIGITS
from skip_exp.config.together import job_config, values_of
from skip_exp.errors import SkipError
from skip_exp.report.cells import without
from skip_exp.report.frame import FOUND, settings, settings_of

JOB = ["task", "backbone", "ratio", "seed"]


@dataclass(frozen=True)
class Grid:
    """A sweep over tasks, backbones, ratios and seeds."""

    name: str
    overrides: list[str]  # of every job
    source: str  # data.source of every job
    about: str  # why this sweep, and this data
    jobs: pd.DataFrame  # a row per job, columns JOB
    heads: dict[str, str]  # task -> "task (metric)"
    settings: dict[tuple[str, str], list[dict[str, str]]]  # by task and backbone: `_decisions`
    parts: str  # `parts_code` of every job

    @property
    def is_rehearsal(self) -> bool:
        """Whether the rows are those that come with the package."""
        return self.source == "embedded"

    @property
    def command(self) -> list[str]:
        """The sweep as a command."""
        sweep = ["--config-dir", str(config.sweep_dir()), "--config-name", self.name]
        return [sys.executable, "-m", "skip_exp", *sweep, *self.overrides]

    def answers(self, results: pd.DataFrame) -> pd.DataFrame:
        """The results, done or failed, of the grid's jobs, settings and source.

        A result of another version of the code is among them where there is no newer one.
        :meth:`remaining` counts its job, since the sweep runs it again.
        """
        placed = results.merge(self.jobs, on=JOB)
        rows = zip(placed["task"], placed["backbone"], settings(placed), strict=True)
        is_same = [_agree(self.settings[task, backbone], found) for task, backbone, found in rows]
        placed = placed[pd.Series(is_same, dtype=bool)]
        placed = placed[(placed["status"] != "done") | (placed["data"] == self.source)]
        older = without(placed[~self.is_current(placed)], self._finished(placed), JOB)
        return pd.concat([older, placed[self.is_current(placed)]], ignore_index=True)

    def remaining(self, answers: pd.DataFrame) -> pd.DataFrame:
        """The jobs, as rows of JOB, without a finished result of this version of the code."""
        return without(self.jobs, self._finished(answers), JOB)

    def is_current(self, results: pd.DataFrame) -> pd.Series:
        """Whether this version of the code computed a result, so that its job is not run again."""
        is_same = results["versions/code"] == job_code()
        return is_same & (results["versions/parts"] == self.parts)

    def _finished(self, results: pd.DataFrame) -> pd.DataFrame:
        return results[self.is_current(results) & (results["status"] == "done")]


def _agree(wanted: Sequence[Mapping[str, str]], found: Mapping[str, str]) -> bool:
    """Whether the settings are among those wanted.

    FOUND may be any where it is left open, DECIDED where a job failed before it decided.
    """
    known = [{k: v for k, v in w.items() if True} for w in wanted]
    return any(w == {k: v for k, v in found.items() if k not in FOUND or k in w} for w in known)


def _decisions(composed: Any) -> list[dict[str, str]]:
    """The settings of a job, for many and for few rows, with a new start and with another one."""
    return [settings_of(asdict(job_config(composed)))]


def read(name: str, source: str, overrides: Sequence[str] = (), about: str = "") -> Grid:
    """The grid of ``sweeps/<name>.yaml`` with overrides of keys that it does not sweep over.

    Raises:
        SkipError: the file does not compose with them.
    """
    values = swept(name)
    for key in values_of(overrides):
        if key in values:
            raise SkipError(f"{key}: {name} sweeps over it; run a custom sweep instead")
    given = [*overrides, f"data.source={source}"]
    heads, found, every = {}, {}, []
    for task, backbone in product(values["task"], values["backbone"]):
        overrides = (f"+task={task}", f"backbone={backbone}", *given)
        whole = composed(name, overrides)
        cfg: Any = OmegaConf.to_container(whole)
        names = cfg["task"]["name"], cfg["backbone"]["name"]
        heads[names[0]] = f"{names[0]} ({cfg['task']['metrics'][0]})"
        found[names] = _decisions(whole)
        points = product(values["prune.ratio"], values["seed"])
        every += [(*names, round(float(ratio), DIGITS), int(seed)) for ratio, seed in points]
    jobs = pd.DataFrame(every, columns=JOB).astype({"seed": "Int64"})
    return Grid(name, given, source, about, jobs, heads, found, parts_code(*results.parts(cfg)))


def swept(name: str) -> dict[str, list[str]]:
    """The values that ``sweeps/<name>.yaml`` sweeps over."""
    content = yaml.safe_load((config.sweep_dir() / f"{name}.yaml").read_text("utf-8"))
    params = content["hydra"]["sweeper"]["params"]
    return {key.lstrip("+"): choices(value) for key, value in params.items()}
