"""Hydra composes the same groups of the same files once: they take most of a composition.

Values are applied to a copy.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import DefaultsList, Overrides
from omegaconf import DictConfig

CREATE = config_loader_impl.create_defaults_list
COMPOSE = ConfigLoaderImpl._compose_config_from_defaults_list
LISTS: dict[Any, DefaultsList] = {}  # of groups, by what is asked for and the files
CONFIGS: dict[int, DictConfig] = {}  # by the identity of a list's ``defaults``


def remember(patch: pytest.MonkeyPatch) -> None:
    """From now on, until ``patch`` is undone."""
    patch.setattr(config_loader_impl, "create_defaults_list", create_defaults_list)
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", compose_defaults)


def create_defaults_list(
    repo: Any, config_name: Any, overrides_list: Any, prepend_hydra: bool, skip_missing: bool
) -> DefaultsList:
    """As Hydra's function of this name."""
    values = Overrides(repo, overrides_list).config_overrides
    others = {id(each) for each in overrides_list if each.is_sweep_override()}
    others |= {id(each) for each in values}
    groups = [each for each in overrides_list if id(each) not in others]
    folders = [Path(each.path) for each in repo.get_sources() if each.scheme() == "file"]
    files = [path for folder in folders for path in sorted(folder.rglob("*.yaml"))]
    states = [(str(path), path.stat().st_mtime_ns) for path in files]
    key = (config_name, skip_missing, *(each.input_line for each in groups), *states)
    if key not in LISTS:
        LISTS[key] = CREATE(repo, config_name, groups, prepend_hydra, skip_missing)
    found = copy.copy(LISTS[key])
    found.config_overrides = values
    return found


def compose_defaults(loader: ConfigLoaderImpl, defaults: Any, repo: Any) -> DictConfig:
    """As Hydra's method ``_compose_config_from_defaults_list``."""
    if not any(each.defaults is defaults for each in LISTS.values()):
        return COMPOSE(loader, defaults, repo)
    if id(defaults) not in CONFIGS:
        CONFIGS[id(defaults)] = COMPOSE(loader, defaults, repo)
    return copy.deepcopy(CONFIGS[id(defaults)])
