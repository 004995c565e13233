"""Every job of a command is checked as it was composed, before the first one starts.

Imports no torch: a slip of the finger in a sweep of a hundred jobs is told in a second, not job by
job.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import env_override
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf, flag_override

from skip_exp.config import refusals, together
from skip_exp.config.schema import Config, typed
from skip_exp.errors import ConfigError, SkipError


def check(composed: DictConfig) -> None:
    """Check a job's composed configuration, ``hydra`` included; it is changed on the way.

    Raises:
        SkipError: a value that is missing or out of its range, or values that do not go together.
        omegaconf.errors.OmegaConfBaseException: an interpolation that leads nowhere.
    """
    hydra = composed.hydra
    with flag_override(hydra, ["readonly", "struct"], False):  # what is known at a job's start only
        hydra.job.num, hydra.job.id, hydra.runtime.output_dir = 0, "0", "."
    before = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(composed)
        job = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        if line := refusals.missing_key(job):
            raise SkipError(line)
        with env_override(hydra.job.env_set):
            settings = typed(job, Config)
            if settings.output_dir != hydra.runtime.output_dir:
                why = "is Hydra's: set hydra.run.dir, or hydra.sweep.dir of a sweep"
                raise ConfigError("output_dir", settings.output_dir, why)
            together.check(settings)
    finally:
        HydraConfig.instance().cfg = before


def check_every_job() -> None:
    """From now on a sweeper checks a batch of jobs whole before it starts any of them."""
    Sweeper.validate_batch_is_legal = _validate  # type: ignore[method-assign, assignment]


def _validate(sweeper: Any, batch: Sequence[Sequence[str]]) -> None:
    """In place of Hydra's own, which composes every job too, and looks no further."""
    loader = sweeper.hydra_context.config_loader
    for overrides in batch:
        check(loader.load_sweep_config(sweeper.config, list(overrides)))
