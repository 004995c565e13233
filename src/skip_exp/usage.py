"""What ``skip-exp --help`` prints."""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from skip_exp.config.keys import keys
from skip_exp.config.schema import Config, conf_dir

WIDTH = 100
HEAD = """\
usage: skip-exp +task=TASK [group=choice ...] [key=value ...] [-m]
       skip-exp COMMAND ...            (python -m skip_exp is the same)

Tunes a prompt and low-rank updates of a language model, prunes the neurons that the task does not
need, tunes the pruned model again, then tests and times both models.

  skip-exp +task=rte                             one job
  skip-exp +task=rte prune.ratio=0.3,0.5,0.7 -m  a sweep: one job per value
  skip-exp +task=sst2 experiment=paper           a recipe: several settings at once
  skip-exp --config-name smoke                   a sweep file of sweeps/
  skip-exp --config-dir DIR +task=mine           with a custom DIR/task/mine.yaml
  skip-exp +task=rte --cfg job                   show the configuration, run nothing
"""
TAIL = """\
Every key: docs/keys.md. Results: outputs/DATE/TIME.../. HYDRA_FULL_ERROR=1 shows tracebacks.
"""
GROUPS = (
    *("task", "backbone", "prompt", "attribution", "prune", "experiment"),
    *("trainer", "logger", "hydra/launcher"),
)
NO_KEYS = {  # groups that are no key of their own
    "experiment": "Settings of several groups at once.",
    "hydra/launcher": "Where the jobs of a sweep run, if not one after the other.",
}
MAIN = (
    *("prune.ratio", "prune.target_speedup", "prune.sites", "seed", "tune.epochs"),
    *("retune.enabled", "data.dir", "data.max_length", "benchmark.enabled"),
)


def text(commands: Mapping[str, str], custom: Path | None) -> str:
    """The help, in lines of at most 100 characters.

    Args:
        commands: by name, the sentence that says what each does.
        custom: the folder given as ``--config-dir``, whose choices are listed, too.
    """
    parts = {
        "Groups (group=choice; a task needs the plus)": _groups(custom),
        "Main keys and their defaults (key=value)": _keys(),
        "Commands (COMMAND --help tells more)": (
            f"  skip-exp {name:<10} {what}" for name, what in commands.items()
        ),
    }
    lines = (line for title, body in parts.items() for line in (f"{title}:", *body, ""))
    return "\n".join([HEAD, *lines, TAIL.rstrip()])


def _groups(custom: Path | None) -> Iterator[str]:
    sentences = {each.name: each.sentence for each in keys(Config)} | NO_KEYS
    folders = [conf_dir(), *([custom] if custom else [])]
    for group in GROUPS:
        name = f"+{group}" if group == "task" else group
        choices = sorted({file.stem for root in folders for file in (root / group).glob("*.yaml")})
        yield _item(name, f"{sentences[group][:-1]}: {', '.join(choices)}")


def _keys() -> Iterator[str]:
    known = {each.name: each for each in keys(Config)}
    for name in MAIN:
        yield _item(f"{name}={shown(known[name].default)}", known[name].sentence)


def shown(default: object) -> str:
    """A default as it would be written on the command line."""
    match default:
        case "???":
            return "required"
        case None:
            return "null"
        case bool():
            return str(default).lower()
        case list():
            return f"[{','.join(map(str, default))}]"
        case _:
            return str(default)


def _item(name: str, about: str) -> str:
    return textwrap.fill(f"  {name:<27} {about}", WIDTH, subsequent_indent=" " * 30)
