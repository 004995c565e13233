"""Compose a job's configuration in Python, as the command line does it; errors in one line."""

import re
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from skip_exp.config.checks import keys
from skip_exp.config.schema import (
    VERSION_BASE,
    Config,
    DataConfig,
    conf_dir,
    register,
    sweep_dir,
    to_object,
)
from skip_exp.config.together import job_config
from skip_exp.errors import SkipError, did_you_mean, first_line, is_full_disk, one_line

PLAIN = re.compile(r"[A-Za-z_/][\w./-]*", re.ASCII)
NO_TEXTS = ("null", "true", "false", "inf", "nan")  # which Hydra reads as other values
READING = ("data.sep", "data.encoding", "data.drop_bad")  # how `predict` and `evaluate` read
_OWN = {  # what to do where none of a group's choices is meant
    "task": "; for your own rows: skip-exp train FILE, or --config-dir",
    "attribution": "; for your own method: --config-dir",
    "backbone": "; for a folder or a hub id: backbone.path=, with backbone.name= and .family=",
    "sweeper": "; for a search: pip install 'skip_exp[search]'",
}
_IN_FILE = re.compile(r"In '(.+?)': .* composing config: (.*) full_key: (\S+)")  # by Hydra
_TWICE = re.compile(r"Multiple values for (\S+)\.|(\S+) appears more than once")
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
            raise SkipError(explain(error)) from error
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
    odd = re.search(r"\$\{[^'\"]{0,40}|'\?\?\?'", str(dict(task)))  # OmegaConf reads them
    if odd:
        raise SkipError(f"task: {odd[0]}: no label, column or path may have ${{, or be ???")
    settings: Any = OmegaConf.to_container(composed)
    try:
        return job_config(settings | {"task": task, "output_dir": output_dir})
    except OmegaConfBaseException as error:
        raise SkipError(explain(error)) from error


def compose_data(overrides: Sequence[str]) -> DataConfig:
    """How a file of rows is read, by the keys READING. Raises SkipError."""
    for override in overrides:
        if override.partition("=")[0] not in READING:
            raise SkipError(f"{override}: must be one of {', '.join(READING)}, with =VALUE")
    return to_object(compose_config("config", overrides).data, DataConfig)


def quote_separator(overrides: Sequence[str]) -> list[str]:
    """The overrides with ``data.sep=;`` as Hydra reads it."""
    quoted = []
    for override in overrides:
        key, _, value = override.partition("=")
        is_bare = key == "data.sep" and len(value) == 1
        quoted.append(f"{key}={quote(value)}" if is_bare else override)
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
        if override.is_sweep_override():
            values = [str(value) for value in override.sweep_string_iterator()]
        else:
            values = [str(override.get_value_element_as_str())]
    except HydraException as error:
        raise SkipError(f"{text}: not values as Hydra reads them: {first_line(error)}") from error
    # Quotes are part of the text where Hydra writes a value back.
    return [value.strip("'\"") for value in values]


def explain(error: BaseException) -> str:
    """The error on one line, in its own words, without the "error:" in front."""
    if isinstance(error, SkipError):
        return one_line(error)
    if isinstance(error, MissingConfigException):
        return _missing_choice(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'output folder'}: {error.strerror or error}"
    cause = error.__cause__ or error
    text = one_line(error)
    if text.startswith("Config group override"):
        return f"{_group_without_choice()}: {text}"
    # Hydra names its own classes where a file is wrong; a user needs the key and the file.
    in_file = _IN_FILE.match(text)
    if in_file:
        file, reason, key = in_file.groups()
        if reason.startswith("Key ") and " not in " in reason:
            reason = _suggest_key(key)
        return f"{key}: {reason} (in {file})"
    twice = _TWICE.match(text)
    if twice:
        group = twice[1] or twice[2]
        if group == "task":
            return "task: given twice; to choose several: +task=A,B -m"
        return f"{group}: given twice; to choose another: {group}=NAME, without +"
    if isinstance(cause, OmegaConfBaseException):
        key = cause.full_key or ""
        if isinstance(cause, ConfigAttributeError | ConfigKeyError) and "nterpolation" not in text:
            return f"{key}: {_suggest_key(key)}"
        reason = str(cause).splitlines()[0]
        text = reason if cause is error else f"{text.rstrip(':')}: {reason}"
        return text if key in text else f"{key}: {text}"
    return text


def _suggest_key(key: str) -> str:
    return f"no such key{did_you_mean(key, (known.name for known in keys(Config)))}"


def describe_failure(problem: Exception) -> str:
    """The error of a failed job: in its own words if the user can fix it, else with its type."""
    if isinstance(problem, SkipError | OmegaConfBaseException) or is_full_disk(problem):
        return explain(problem)
    return f"{type(problem).__name__}: {first_line(problem)}"


def _missing_choice(error: MissingConfigException) -> str:
    """A group's choice or a ``--config-name`` that does not exist."""
    file = error.missing_cfg_file or ""
    if not error.options:
        sweeps = [path.stem for path in sweep_dir().glob("*.yaml")]
        return f"{str(error).splitlines()[0].rstrip('.')}{did_you_mean(file, sweeps)}"
    outer = "hydra/" if file.startswith("hydra/") else ""
    group, _, name = file.removeprefix(outer).partition("/")
    advice = _OWN.get(group, "")
    if "/" not in name:  # else it is a path
        advice = did_you_mean(name, error.options) or advice
    known = f"no such choice; must be one of {', '.join(error.options)}"
    return f"{outer}{group}={name}: {known}{advice}"


def _group_without_choice() -> str:
    """The overrides of the command line whose value is no choice of their group."""
    for argument in sys.argv[1:]:
        group, _, choice = argument.lstrip("+").partition("=")
        folder = conf_dir() / group
        if choice and folder.is_dir() and not (folder / f"{choice}.yaml").is_file():
            return argument
    return "group"
