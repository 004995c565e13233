"""One line for whatever goes wrong before a job runs: what was typed, and what is allowed."""

import difflib
import re
import types
from collections.abc import Container, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from skip_exp.config.schema import Config, conf_dir
from skip_exp.errors import SkipError

_KINDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    list: "a list such as [a,b]",
    dict: "a mapping such as {a: b}",
}

# A word among the values of prune.ratio, which takes any type for the sake of `auto`.
_NO_RATIO = r"^\+*prune\.ratio=(?:.*,)?(?!auto(?:,|$))([A-Za-z_]+)(?:,|$)"

_LAUNCHERS = ("joblib", "submitit", "ray")  # optional dependencies of pyproject.toml


def is_composition_error(error: Exception) -> bool:
    """Whether the configuration itself was refused, so that no job can have started."""
    # A job that fails says so itself: what comes out of Hydra comes from before the first one.
    own = (SkipError, YAMLError, ValueError, RecursionError)
    composition_errors = (CompactHydraException, OmegaConfBaseException, *own)
    return isinstance(error, composition_errors)


def explain(error: BaseException) -> str:
    """The error on one line, without the "error:" in front."""
    if isinstance(error, SkipError):
        return _one_line(error)
    if isinstance(error, MissingConfigException):
        return _missing_choice(error)
    if isinstance(error, OverrideParseException):
        lines = [x for x in error.message.splitlines() if not x.startswith(("Error", "See"))]
        return f"{error.override}: not of the form key=value ({' '.join(lines)})"
    if isinstance(error, CompactHydraException | OmegaConfBaseException):
        return _composition(error)
    if isinstance(error, RecursionError):
        return "a value of the configuration is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"a YAML file of the configuration is not UTF-8 text: {_one_line(error)}"
    if isinstance(error, YAMLError | ValueError):
        return _one_line(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}cannot write the output folder: {error.strerror or error};"
            " name another one: hydra.run.dir=DIR, with -m hydra.sweep.dir=DIR"
        )
    return f"{type(error).__name__}: {_one_line(error)}"


def missing_task(tasks: Sequence[str]) -> str:
    return f"task: missing; write +task=NAME, for example +task=rte; NAME is one of {_list(tasks)}"


def missing_extra(hydra: DictConfig, plugins: Container[str]) -> str | None:
    """A launcher of ``conf/hydra/launcher`` whose class is not among the ``plugins`` found."""
    launcher = hydra.runtime.choices.get("hydra/launcher") or ""
    extra = launcher.partition("_")[0]
    if extra not in _LAUNCHERS or hydra.launcher._target_ in plugins:
        return None
    return f"hydra/launcher={launcher}: needs an extra package: pip install 'skip_exp[{extra}]'"


def refused(overrides: Sequence[str], groups: Sequence[str]) -> str | None:
    """What Hydra lets pass and no job could use: ``+key=value`` of a key that does not exist."""
    for override in overrides:
        added = re.match(r"\++([\w.]+)(@[\w.]+)?=", override)
        if added and added.group(1) not in groups and _schema(added.group(1)) is None:
            return f"{override}: {no_such_key(added.group(1))}"
        if word := _search(_NO_RATIO, override):
            return f"prune.ratio={word}: must be a number or auto"
    return None


def group_value(arguments: Sequence[str]) -> str | None:
    """``prune=0.5``: a value where one of a group's choices should stand; Hydra names no key."""
    for argument in arguments:
        group, is_override, given = argument.lstrip("+").partition("=")
        folder = conf_dir() / group
        if not is_override or not group.isidentifier() or not folder.is_dir():
            continue
        values = [given] if given.startswith("{") else given.split(",")
        if wrong := next(filter(_is_no_name, values), None):
            choices = _list(sorted(file.stem for file in folder.glob("*.yaml")))
            keys = f"its keys: {group}.KEY=VALUE" if _schema(group) else "it sets several keys"
            return f"{group}={wrong}: must be one of {choices} ({keys})"
    return None


def _is_no_name(value: str) -> bool:
    return bool(
        re.fullmatch(r"[-+.]?\d[\d_.eE+-]*|[-+]?\.?(?i:inf|nan)|(?i:true|false)|\{.*", value)
    )


def missing_key(config: DictConfig) -> str | None:
    """A key without a value: a group deselected, or a YAML of the user's own that lacks it."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("hydra", None)  # Hydra fills its own in later
    key = next(_unset(plain), None)
    return missing(key) if key else None


def _unset(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _unset(value, f"{prefix}{key}.")
        elif value == "???":
            yield f"{prefix}{key}"


def missing(key: str) -> str:
    return f"{key}: missing; give it a value"


def no_such_key(key: str) -> str:
    if key.startswith("hydra."):
        return "no such key"
    near = _close_keys(key)
    section, _, _ = key.rpartition(".")
    siblings = [k for k in _keys() if k.rpartition(".")[0] == section]
    if near:
        return f"no such key; did you mean {' or '.join(near)}?"
    where = f"{section} has" if siblings and section else "there are"
    names = [k.rpartition(".")[2] for k in siblings] or [k for k in _keys() if "." not in k]
    return f"no such key; {where} {_list(names)}"


def _close_keys(key: str) -> list[str]:
    """Keys that look like the one given: the same last name elsewhere first."""
    keys = list(_keys())
    last = key.rpartition(".")[2]
    same = [k for k in keys if k.rpartition(".")[2] == last]
    return same[:3] or difflib.get_close_matches(key.lower(), keys, n=2, cutoff=0.7)


def _missing_choice(error: MissingConfigException) -> str:
    text = str(error)
    match = re.search(r"Could not (?:find|load) '(.+?)'", text)
    if not match:  # the primary config
        folders = re.findall(r"path=file://(.+)", text)
        names = sorted({file.stem for folder in folders for file in Path(folder).glob("*.yaml")})
        near = difflib.get_close_matches(error.missing_cfg_file or "", names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        there = f"no such file; must be one of {_list(names)}"
        return f"--config-name={error.missing_cfg_file}: {there}{hint}"
    group, _, choice = match.group(1).rpartition("/")
    near = difflib.get_close_matches(choice, error.options or [], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    options = f"; must be one of {_list(error.options)}" if error.options else ""
    return f"{group}={choice}: no such choice{options}{hint}"


def _composition(error: BaseException) -> str:
    text, detail = str(error), str(error.__cause__ or error)
    if text.startswith("Could not override '"):
        return _not_overridable(text)
    if override := _search(r"Ambiguous value for argument '(.+?)'(?:\n|$)", text):
        return f"{override}: several values are several jobs: add -m (a list is [a,b])"
    if second_choice := re.match(r"Multiple values for (\S+)\. .*'override \S+: (\S+)'", text):
        group, choice = second_choice.groups()
        return f"{group}={choice}: {group} has a choice already; write {group}={choice}, no plus"
    if group := _search(r"^(\S+) appears more than once in the final defaults list", text):
        return f"{group}: has a choice already; write {group}=CHOICE, no plus"
    if empty := _search(r"Missing mandatory value: (\S+)", detail):
        return missing(empty)
    key = _search(r"full_key: (\S+)", detail) or ""
    if variable := _search(r"Environment variable '(.+?)' not found", detail):
        return f"{key}: the environment variable {variable} is not set"
    place = _place(text) + key
    if re.search(r"Key '\w+' (?:is )?not in ", detail):
        return f"{place}: {no_such_key(key)}"
    setting = _search(r"Error merging override (.+?)(?:\n|$)", text) or place
    if "does not support deletion" in detail:
        return f"{setting}: cannot be removed; give it another value"
    kind = None if "nterpolation" in detail else _kind(key)
    message = f"must be {kind}" if kind else _detail(detail)
    return f"{setting}: {message}" if setting else message


def _not_overridable(text: str) -> str:
    key = _search(r"Could not override '(.+?)'", text) or ""
    form = _search(r"use (\+\S+)", text) or f"+{key}"
    if "No match in the defaults list" in text:  # a group that has no choice yet
        return f"{form.removeprefix('+')}: write {form} (with the plus)"
    return f"{form.removeprefix('+')}: {no_such_key(key)}"


def _kind(key: str) -> str | None:
    """What a key takes, in words; None where the schema does not know it."""
    node = _schema(key)
    if node is None:
        return None
    if is_dataclass(node):
        names = [f"{key}.{field.name}" for field in fields(node)]
        return f"set key by key: {_list(names)}"
    if isinstance(node, types.UnionType):
        node = next(arg for arg in get_args(node) if arg is not type(None))
        return f"{_KINDS.get(get_origin(node) or node)} or null"
    return _KINDS.get(get_origin(node) or node)


def _schema(key: str) -> Any:
    """Type of a key (for a key inside a mapping, of the mapping); None where there is none."""
    node: Any = Config
    for name in re.sub(r"\[.*?\]", "", key).split("."):
        if get_origin(node) is dict:
            return node
        node = get_type_hints(node).get(name) if is_dataclass(node) else None
    return node


def _keys(node: Any = Config, prefix: str = "") -> Iterator[str]:
    for key, kind in get_type_hints(node).items():
        yield f"{prefix}{key}"
        if is_dataclass(kind):
            yield from _keys(kind, f"{prefix}{key}.")


def _place(text: str) -> str:
    """``In 'task/mine': ...``: the file at fault."""
    file = _search(r"^In '(.+?)'", text)
    return f"{file}.yaml: " if file else ""


def _search(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match.group(1) if match else None


def _detail(text: str) -> str:
    """The first line that tells what is wrong, not where."""
    lines = [line.strip() for line in text.splitlines() if not line.startswith("In '")]
    return next(filter(None, lines), "")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
