"""Makes the search of ``hparams_search=`` known to Hydra, whose plugins are in this namespace."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Search(Sweeper):
    """The sweeper of ``conf/hydra/sweeper/search.yaml``; `skip_exp.sweep.search` does the work.

    Any Hydra application in this environment imports this file, so it imports nothing else.
    """

    def __init__(self, **_: Any) -> None:
        """The settings are read from the configuration, which `setup` brings."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from skip_exp.sweep.search import search  # brings the package: see above

        assert self.config is not None and self.launcher is not None
        search(self.config, self.launcher)
