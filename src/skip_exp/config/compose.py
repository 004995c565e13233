"""Compose a job's configuration in Python, as the command line does it."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skip_exp.config import refusals
from skip_exp.config.schema import Config, conf_dir, register
from skip_exp.config.together import check_given, job_config
from skip_exp.errors import SkipError

GIVEN = "given"  # name of a task that is not a file, in Hydra's store


def composed(task: Mapping[str, Any], overrides: Sequence[str], output_dir: str) -> Config:
    """The typed and checked configuration of a job on ``task``.

    Example:
        >>> cfg = composed({"name": "mine", ...}, ["prune.ratio=0.7"], "outputs/mine")
        >>> cfg.prune.ratio
        0.7

    Args:
        task: the config group ``task``; overrides may change it.
        overrides: as on the command line.

    Raises:
        SkipError: a key or a value that the command line would refuse, too.
    """
    register()
    ConfigStore.instance().store(group="task", name=GIVEN, node=OmegaConf.create(dict(task)))
    if swept := [each for each in overrides if each.startswith(("hydra.", "output_dir="))]:
        raise SkipError(f"overrides: {swept[0]}: is for the command line; give output=")
    outer = GlobalHydra.instance().hydra  # the caller may be an app of Hydra's
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("config", [f"+task={GIVEN}", *overrides])
        cfg.output_dir = output_dir
        settings = job_config(cfg)
        check_given(settings, overrides)
        return settings
    except (HydraException, OmegaConfBaseException) as error:
        raise SkipError(refusals.explain(error)) from error
    finally:
        GlobalHydra.instance().hydra = outer
