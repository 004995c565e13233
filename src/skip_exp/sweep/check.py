"""Hydra's callback: checks every job of a command before the first one starts.

Without torch, a wrong value is refused within about a second.
"""

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, flag_override

from skip_exp.config import together
from skip_exp.config.checks import require
from skip_exp.config.compose import explain
from skip_exp.config.schema import list_objectives
from skip_exp.errors import SkipError
from skip_exp.sweep import finish

BASIC = ("BasicSweeper", "BasicLauncher")  # Hydra's own: all combinations, one after the other


class Started(Callback):
    """Refuses a wrong configuration with exit code 2, and notes the folder of the results."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Before a single job.

        Raises:
            SystemExit: the command is refused.
        """
        with _refusing():
            for part in ("launcher", "sweeper"):
                if not config.hydra[part]._target_.endswith(BASIC):  # Hydra would not use it
                    name = config.hydra.runtime.choices[f"hydra/{part}"]
                    raise SkipError(f"hydra/{part}={name}: is for sweeps; add -m, or leave it out")
            check_composed(copy.deepcopy(config))
            with _as_current(config):  # for interpolations of Hydra's own
                folder = Path(config.hydra.run.dir)
            finish.claim(folder, multirun=False)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Before a sweep. Of a search, two jobs are checked: its others are not yet known.

        Raises:
            SystemExit: the command is refused.
        """
        with _refusing():
            launcher = config.hydra.launcher._target_
            if launcher not in Plugins.instance().class_name_to_class:
                raise SkipError(
                    f"hydra/launcher: {launcher}: its package is not installed: "
                    "pip install 'skip_exp[joblib]', 'skip_exp[submitit]' or 'skip_exp[ray]'"
                )
            for number, overrides in enumerate(list_jobs(config.hydra)):
                composed = _loader().load_sweep_config(config, overrides)
                check_composed(composed, number)
                _check_objective(composed)
            folder = Path(config.hydra.sweep.dir)
            finish.claim(folder, multirun=True)
            OmegaConf.save(config, folder / finish.SWEEP)  # only Hydra's own sweeper does so


def check_composed(composed: DictConfig, number: int = 0) -> None:
    """Check a job's composed configuration with its node ``hydra``, which is changed.

    Args:
        number: of the job in its sweep.

    Raises:
        SkipError: a value out of its range, or values that exclude each other.
        omegaconf.errors.OmegaConfBaseException: a missing value, or a broken interpolation.
    """
    if OmegaConf.is_missing(composed.task, "name"):
        tasks = ", ".join(_loader().get_group_options("task"))
        if named := composed.hydra.runtime.choices.get("task"):
            raise SkipError(f"task.name: missing in task/{named}.yaml")
        raise SkipError(f"task: missing; write +task=NAME, e.g. +task=rte; one of {tasks}")
    hydra = composed.hydra
    require(
        not hydra.job.chdir,
        "hydra.job.chdir",
        True,
        "is not supported: paths start at the folder of the command",
    )
    with flag_override(hydra, ["readonly", "struct"], False):  # set when a job starts
        hydra.job.num = number
        hydra.job.id = str(number)
        hydra.runtime.output_dir = "."
    with _as_current(composed):
        job = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        settings = together.job_config(job)
        together.check_given(settings, hydra.overrides.task)
    require(
        settings.output_dir == hydra.runtime.output_dir,
        "output_dir",
        settings.output_dir,
        "is set by Hydra: use hydra.run.dir, or hydra.sweep.dir for a sweep",
    )


def list_jobs(hydra: Any) -> list[list[str]]:
    """The overrides of every job of a sweep.

    Of a search, whose sweeper chooses values on the way, only those at two ends of its space.

    Args:
        hydra: the node ``hydra`` of the sweep's configuration.
    """
    params = hydra.sweeper.get("params") or {}
    texts = [f"{key}={value}" for key, value in params.items()]
    texts.extend(hydra.overrides.task)
    outer = GlobalHydra.instance()  # without it, glob(*) cannot be read
    parser = OverridesParser.create(outer.config_loader() if outer.is_initialized() else None)
    # The last override of a key counts: the command line replaces a value of a sweep file.
    parsed = {override.get_key_element(): override for override in parser.parse_overrides(texts)}
    if hydra.sweeper._target_.endswith(BASIC):
        sweeper: Any = Plugins.instance().class_name_to_class[hydra.sweeper._target_]
        jobs: list[list[str]] = sweeper.split_arguments(list(parsed.values()), None)[0]
        return jobs
    first = []
    last = []
    for key, override in parsed.items():
        value: Any = override.value()
        if override.is_interval_sweep():
            values = [value.start, value.end]
        elif override.is_sweep_override():
            values = list(override.sweep_string_iterator())
        else:
            values = [override.get_value_element_as_str()]
        first.append(f"{key}={values[0]}")
        last.append(f"{key}={values[-1]}")
    return [first, last]


def _check_objective(composed: DictConfig) -> None:
    """Raise ConfigError where a search has more or fewer directions than objectives."""
    direction = composed.hydra.sweeper.get("direction")
    count = len(direction) if OmegaConf.is_list(direction) else int(direction is not None)
    require(
        direction is None or len(list_objectives(composed.sweep.objective)) == count,
        "sweep.objective",
        composed.sweep.objective,
        f"a search needs one for each hydra.sweeper.direction: {direction}",
    )


@contextmanager
def _as_current(config: DictConfig) -> Iterator[None]:
    """Resolve ``${hydra:...}`` from this configuration: Hydra sets its own when a job starts."""
    before = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(config)
        yield
    finally:
        HydraConfig.instance().cfg = before


def _loader() -> ConfigLoader:
    return GlobalHydra.instance().config_loader()


@contextmanager
def _refusing() -> Iterator[None]:
    """End the program at an error: Hydra would turn that of a callback into a warning."""
    try:
        yield
    except Exception as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        raise SystemExit(2) from error
