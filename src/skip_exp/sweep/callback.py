"""Hydra's callback: what is refused at composition, before any job, and what is started."""

import copy
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skip_exp.config import refusals
from skip_exp.errors import SkipError
from skip_exp.sweep import composed
from skip_exp.sweep.state import STARTED


class Started(Callback):
    """Refuses what no job could use, on one line and with exit code 2; notes what starts."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Before a single job.

        Raises:
            SystemExit: the command is refused.
        """
        _refuse_overrides(config.hydra.overrides)
        if OmegaConf.is_missing(config.task, "name"):
            _refuse_missing_task()
        if line := refusals.missing_key(config):
            _refuse(line)
        try:
            composed.check(copy.deepcopy(config))
        except (SkipError, OmegaConfBaseException) as error:
            _refuse(refusals.explain(error))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Before a sweep; a task may be named by its overrides or by its sweeper's parameters.

        Raises:
            SystemExit: the command is refused.
        """
        params = OmegaConf.select(config, "hydra.sweeper.params") or {}
        overrides = [*_refuse_overrides(config.hydra.overrides), *params]
        names_task = any(re.match(r"\+*task(\.name)?(=|$)", override) for override in overrides)
        if not names_task and OmegaConf.is_missing(config.task, "name"):
            _refuse_missing_task()
        if line := refusals.missing_extra(config.hydra, Plugins.instance().class_name_to_class):
            _refuse(line)
        composed.check_every_job()
        STARTED.folder, STARTED.multirun = Path(config.hydra.sweep.dir), True

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Before each job, in the process that runs it."""
        if not STARTED.multirun:
            STARTED.folder = Path(config.hydra.runtime.output_dir)


def _loader() -> ConfigLoader:
    return GlobalHydra.instance().config_loader()


def _refuse_missing_task() -> NoReturn:
    _refuse(refusals.missing_task(_loader().get_group_options("task")))


def _refuse_overrides(overrides: DictConfig) -> list[str]:
    """The overrides of the job's configuration, none of which is refused."""
    task_overrides: Any = OmegaConf.to_container(overrides.task, resolve=False)
    if line := refusals.refused(task_overrides, _loader().list_groups("")):
        _refuse(line)
    return list(task_overrides)


def _refuse(line: str) -> NoReturn:
    """End the program; an exception would not do: Hydra turns those of callbacks into warnings."""
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)
