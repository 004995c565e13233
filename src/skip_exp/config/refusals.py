"""One line for every error before a job runs."""

import re
import sys

from hydra.errors import MissingConfigException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from skip_exp.config.keys import keys
from skip_exp.config.schema import Config, conf_dir, sweep_dir
from skip_exp.errors import SkipError, did_you_mean, first_line, one_line

_OWN = {  # what to do where none of a group's choices is meant
    "task": "; for your own rows: skip-exp train FILE, or --config-dir",
    "backbone": "; for a folder or a hub id: backbone.path=, with backbone.name= and .family=",
}
_IN_FILE = re.compile(r"In '(.+?)': .* composing config: (.*) full_key: (\S+)")  # by Hydra
_TWICE = re.compile(r"Multiple values for (\S+)\.|(\S+) appears more than once")


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
    if in_file := _IN_FILE.match(text):
        place, why, key = in_file.groups()
        if "is not a ListConfig" in why:
            why = "must be a list, as in [a, b]"
        elif why.startswith("Key ") and " not in " in why:
            why = _no_such(key)
        return f"{key}: {why} (in {place})"
    if twice := _TWICE.match(text):
        group = twice[1] or twice[2]
        if group == "task":
            return "task: given twice; to choose several: +task=A,B -m"
        return f"{group}: given twice; to choose another: {group}=NAME, without +"
    if isinstance(cause, OmegaConfBaseException):
        key = cause.full_key or ""
        if isinstance(cause, ConfigAttributeError | ConfigKeyError) and "nterpolation" not in text:
            return f"{key}: {_no_such(key)}"
        reason = str(cause).splitlines()[0]
        text = reason if cause is error else f"{text.rstrip(':')}: {reason}"
        return text if key in text else f"{key}: {text}"
    return text


def _no_such(key: str) -> str:
    return f"no such key{did_you_mean(key, [each.name for each in keys(Config)])}"


def describe_failure(problem: Exception) -> str:
    """The error of a failed job: in its own words if the user can fix it, else with its type."""
    if isinstance(problem, SkipError | OmegaConfBaseException):
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
