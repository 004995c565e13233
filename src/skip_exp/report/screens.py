"""What an ablation's sweep file compares, and which results belong to each of its options."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import yaml

from skip_exp.config.schema import method_name
from skip_exp.report import grid as grids
from skip_exp.report.cells import when
from skip_exp.report.text import Found
from skip_exp.training.length import times

PATTERN = "ablation_*.yaml"
PHASES = ("pruned", "final")


class Pair(NamedTuple):
    """What two results must share to be compared."""

    task: str
    backbone: str
    seed: int


Identity = frozenset[tuple[str, str]]  # settings that decide a score, for all pairs and ratios
Runs = Mapping[Pair, Found]


@dataclass(frozen=True)
class Option:
    label: str
    scores: Mapping[tuple[str, float], Identity]  # by phase and ratio
    continued: Mapping[float, Identity]  # of dense_continued: the same re-tuning, nothing cut


@dataclass(frozen=True)
class Screen:
    """The grid of one sweep file."""

    name: str
    question: str
    command: str
    factors: list[str]
    options: list[Option]
    reference: Option  # what the others are compared with
    is_default: bool  # whether that is what `python -m skip_exp` does, told nothing
    pairs: list[Pair]
    ratios: list[float]

    @property
    def title(self) -> str:
        return self.name.removeprefix("ablation_").replace("_", " ")


@dataclass(frozen=True)
class Index:
    """Finished results on real data by what decided their scores, repeated ones in order."""

    scores: dict[str, dict[tuple[Identity, float], dict[Pair, list[Found]]]]  # by phase
    continued: dict[Identity, dict[Pair, list[Found]]]

    def every(self, option: Option, phase: str, ratio: float) -> Mapping[Pair, list[Found]]:
        return self.scores[phase].get((option.scores[phase, ratio], _rounded(ratio)), {})

    def runs(self, option: Option, phase: str, ratio: float, pairs: Iterable[Pair]) -> Runs:
        """The option's results with a score of the phase."""
        found = self.every(option, phase, ratio)
        return {pair: _latest(found[pair]) for pair in pairs if pair in found}

    def dense_continued(self, option: Option, ratio: float) -> Runs:
        found = self.continued.get(option.continued[ratio], {})
        return {pair: _latest(runs) for pair, runs in found.items()}


def _latest(runs: Sequence[Found]) -> Found:
    """The last one, with the last quiet timing: screens and confirmations are not timed."""
    quiet = [run["latency"] for run in runs if run.get("latency") and not _contended(run)]
    return {**runs[-1], "latency": quiet[-1]} if quiet else runs[-1]


def _contended(run: Found) -> bool:
    return bool(run["latency"].get("contended"))


def _rounded(ratio: Any) -> float:
    return round(float(ratio), 6)


def index(found: Sequence[Found]) -> Index:
    """A result without re-tuning has no final score of its own, so it counts as pruned only."""
    scores: Any = {phase: defaultdict(lambda: defaultdict(list)) for phase in PHASES}
    continued: Any = defaultdict(lambda: defaultdict(list))
    for each in sorted(found, key=when):
        values: list[Any] = [each.get(name) for name in (*Pair._fields, "ratio")]
        if each.get("status") != "done" or each.get("data_is_sample") or None in values:
            continue
        pair, ratio = Pair(*values[:3]), _rounded(values[3])
        scores["pruned"][_identity(each, "pruned", ratio), ratio][pair].append(each)
        if ((each.get("config") or {}).get("retune") or {}).get("enabled", True):
            scores["final"][_identity(each, "final", ratio), ratio][pair].append(each)
            if ratio == 0:
                continued[_identity(each, "continued", ratio)][pair].append(each)
    return Index(scores, continued)


# What goes is chosen by these, so that at ratio 0 they change nothing.
_CHOOSING = ("attribution", "prune.sites", "prune.allocation", "prune.round_to", "prune.steps")
_WITHOUT = {
    "pruned": ("benchmark.", "retune."),
    "final": ("benchmark.",),
    "continued": ("benchmark.", *_CHOOSING, "prune.reconstruct", "prune.rank"),
}


def _identity(result: Found, kind: str, ratio: float) -> Identity:
    """What decided the score of a result, or decides those of an option, at ``ratio``."""
    method, settings = grids.settings_of(result)
    values = {"attribution": str(method), **settings, **_length(settings, ratio)}
    return frozenset(
        (key, value) for key, value in values.items() if not key.startswith(_WITHOUT[kind])
    )


def _length(settings: Mapping[str, str], ratio: float) -> dict[str, str]:
    """How long re-tuning was at ``ratio``, whether asked for or by ``retune.budget``."""
    given = [settings.get(f"retune.{key}") for key in ("epochs", "patience")]
    if None in given:
        return {}
    epochs, patience = (int(str(value)) for value in given)
    k = times(epochs, float(settings.get("retune.budget", 0)), 1 - ratio)
    return {
        "retune.epochs": str(k * epochs),
        "retune.patience": str(k * patience),
        "retune.budget": "",
    }


def read_all() -> list[Screen]:
    """Every sweep file that compares something, the controls last.

    Raises:
        SkipError: a file does not compose.
    """
    names = sorted(file.stem for file in grids.sweep_dir().glob(PATTERN))
    found = [read(name) for name in sorted(names, key=lambda name: name == "ablation_controls")]
    return [screen for screen in found if screen.factors]


def read(name: str) -> Screen:
    """The grid of ``sweeps/<name>.yaml``. Raises SkipError where it does not compose."""
    text = (grids.sweep_dir() / f"{name}.yaml").read_text(encoding="utf-8")
    params = yaml.safe_load(text)["hydra"]["sweeper"]["params"]
    swept = {key.lstrip("+"): grids.choices(value) for key, value in params.items()}
    factors = [key for key in swept if key not in grids.SWEPT]
    base = [f"+task={swept['task'][0]}"]
    default = _compose(name, base, {})
    ratios = [float(ratio) for ratio in swept.get("prune.ratio", [default["prune"]["ratio"]])]
    options = [
        _option(_compose(name, base, given), given, ratios)
        for values in product(*(swept[factor] for factor in factors))
        for given in [dict(zip(factors, values, strict=True))]
    ]
    same = [o for o in options if o.scores == _option(default, {}, ratios).scores]
    reference = (same or options)[0]
    # A sweep may set more than it compares: attribution on fewer texts, say.
    plain = _option(_plain(swept["task"][0]), {}, ratios)
    seeds = [int(seed) for seed in swept.get("seed", [default["seed"]])]
    backbones = swept.get("backbone", [default["backbone"]["name"]])
    return Screen(
        name=name,
        question=_question(text),
        command=_command(text),
        factors=factors,
        options=options,
        reference=reference,
        is_default=reference.scores == plain.scores,
        pairs=[Pair(*point) for point in product(swept["task"], backbones, seeds)],
        ratios=ratios,
    )


def _compose(name: str, base: Sequence[str], values: Mapping[str, str]) -> Mapping[str, Any]:
    """Final scores are those with re-tuning, also where the sweep itself does without."""
    given = [f"{key}={value}" for key, value in values.items()]
    return grids.composed(name, [*base, "retune.enabled=true", *given])


@cache
def _plain(task: str) -> Mapping[str, Any]:
    """The default job; composed once for all sweep files."""
    return _compose(grids.PLAIN, [f"+task={task}"], {})


def _option(cfg: Mapping[str, Any], values: Mapping[str, str], ratios: Sequence[float]) -> Option:
    method = method_name(cfg["attribution"]["_target_"])
    result = {"attribution": method, "config": cfg}
    every = ", ".join(f"{key}={value}" for key, value in values.items())
    return Option(
        label=next(iter(values.values())) if len(values) == 1 else every,
        scores={
            (phase, ratio): _identity(result, phase, ratio)
            for phase, ratio in product(PHASES, ratios)
        },
        continued={ratio: _identity(result, "continued", ratio) for ratio in ratios},
    )


def _header(text: str) -> list[str]:
    """The comment at the top, without its marks."""
    lines = text.splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line.removeprefix("#").strip() for line in lines[:end]]


def _question(text: str) -> str:
    """The first sentence of the header."""
    return re.split(r"(?<=[.?!])\s", " ".join(_header(text)).strip(), maxsplit=1)[0]


def _command(text: str) -> str:
    return next((line for line in _header(text) if "--config-name" in line), "")
