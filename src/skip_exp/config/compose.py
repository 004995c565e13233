"""Compose a job's configuration in Python, as the command line does it."""

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skip_exp.config import refusals
from skip_exp.config.schema import Config, DataConfig, conf_dir, register, to_object
from skip_exp.config.together import job_config
from skip_exp.config.versions import VERSION_BASE
from skip_exp.errors import SkipError, first_line

PLAIN = re.compile(r"[A-Za-z_/][\w./-]*", re.ASCII)
NO_TEXTS = ("null", "true", "false", "inf", "nan")  # which Hydra reads as other values
READING = ("data.sep", "data.encoding", "data.drop_bad")  # how `predict` and `evaluate` read
_COMPOSING = threading.RLock()  # Hydra's state is global


def compose_config(name: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration ``name`` (``config``, or that of a sweep file) with ``overrides``.

    Raises:
        SkipError: it does not compose.
    """
    with _COMPOSING:
        register()
        outer = GlobalHydra.instance().hydra  # the caller may be an app of Hydra's
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(conf_dir()), **VERSION_BASE):
                cfg = compose(name, ["output_dir=.", *quote_separator(overrides)])
                OmegaConf.resolve(cfg)
                return cfg
        except (HydraException, OmegaConfBaseException) as error:
            raise SkipError(refusals.explain(error)) from error
        finally:
            GlobalHydra.instance().hydra = outer


def job_of(composed: DictConfig, task: Mapping[str, Any], output_dir: str) -> Config:
    """The typed and checked configuration of a job on ``task``.

    Example:
        >>> composed = compose_config("config", ["prune.ratio=0.7"])
        >>> job_of(composed, {"name": "mine", ...}, "outputs/mine").prune.ratio
        0.7

    Args:
        composed: by :func:`compose_config`.
        task: the config group ``task``.

    Raises:
        SkipError: a value that the command line would refuse, too.
    """
    if odd := re.search(r"\$\{[^'\"]{0,40}|'\?\?\?'", str(dict(task))):  # OmegaConf reads them
        raise SkipError(f"task: {odd[0]}: no label, column or path may have ${{, or be ???")
    settings: Any = OmegaConf.to_container(composed)
    try:
        return job_config({**settings, "task": task, "output_dir": output_dir})
    except OmegaConfBaseException as error:
        raise SkipError(refusals.explain(error)) from error


def compose_data(overrides: Sequence[str]) -> DataConfig:
    """How a file of rows is read, by the keys READING. Raises SkipError."""
    for each in overrides:
        if each.partition("=")[0] not in READING:
            raise SkipError(f"{each}: must be one of {', '.join(READING)}, with =VALUE")
    return to_object(compose_config("config", overrides).data, DataConfig)


def quote_separator(overrides: Sequence[str]) -> list[str]:
    """The overrides with ``data.sep=;`` as Hydra reads it."""
    quoted = []
    for each in overrides:
        key, _, value = each.partition("=")
        is_bare = key == "data.sep" and len(value) == 1
        quoted.append(f"{key}={quote(value)}" if is_bare else each)
    return quoted


def quote(value: str) -> str:
    """A text as Hydra reads it, whatever its characters; a plain word or path stays bare.

    Example:
        >>> quote("a, b"), quote("/a/b-2")
        ("'a, b'", '/a/b-2')
    """
    if PLAIN.fullmatch(value) and value.lower() not in NO_TEXTS:
        return value
    return QuotedString(text=value, quote=Quote.single).with_quotes()


def choices(text: Any) -> list[str]:
    """The values of a swept key, as Hydra reads them: ``1,2,3``, ``[ffn],[ffn,heads]``.

    Raises:
        SkipError: they cannot be read.
    """
    try:
        override = OverridesParser.create().parse_override(f"key={text}")
        given = (
            [str(value) for value in override.sweep_string_iterator()]
            if override.is_sweep_override()
            else [str(override.get_value_element_as_str())]
        )
    except HydraException as error:
        raise SkipError(f"{text}: not values as Hydra reads them: {first_line(error)}") from error
    return [
        each[1:-1] if each[:1] == each[-1:] and each[:1] in ("'", '"') else each for each in given
    ]
