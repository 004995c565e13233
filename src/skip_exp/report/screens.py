"""What an ablation's sweep file compares, and by what its results are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.errors import SkipError
from skip_exp.report import grid as grids
from skip_exp.report.frame import CONFIG, settings, settings_of
from skip_exp.training.length import cost_left, times

PHASES = ("pruned", "final")
CONTINUED = "continued"  # dense_continued: the same re-tuning with nothing cut
REPEATS = ("ablation_controls", "ablation_t5_mini")  # other sweeps name their options
PLACE = ["task", "backbone"]
PAIR = [*PLACE, "seed"]  # what two results must share to be compared
_RETUNED = "retune.enabled=true"  # final scores are those with re-tuning, whatever a sweep does
# What goes is chosen by these, so that at ratio 0 they change nothing.
_CHOOSING = ("attribution", "prune.sites", "prune.allocation", "prune.round_to", "prune.steps")
_WITHOUT = {
    "pruned": ("benchmark.", "retune."),
    "final": ("benchmark.",),
    CONTINUED: ("benchmark.", *_CHOOSING),
}


@dataclass(frozen=True)
class Screen:
    """The grid of one sweep file."""

    name: str
    question: str
    factors: list[str]
    # A row per ratio, phase and option that the phase can tell from the reference, that one first:
    # ratio, phase, option (label), is_reference, identity, and identity of its dense_continued.
    points: pd.DataFrame
    reference: str  # label of the option that the others are compared with
    is_default: bool  # whether that is what `python -m skip_exp` does, told nothing
    pairs: pd.DataFrame  # columns PAIR
    folder: Path | None = None  # of the file, where it is none of the package's
    # Per option (label) what decides its results at any ratio.
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.name.removeprefix("ablation_").replace("_", " ")

    @property
    def command(self) -> str:
        where = f"--config-dir {self.folder} " if self.folder else ""
        return f"python -m skip_exp {where}--config-name {self.name}"


def scored(results: pd.DataFrame) -> pd.DataFrame:
    """Finished results on real data, a row per result and what it is a score of.

    Columns beside the frame's: phase (`PHASES` or CONTINUED), identity, select and validation
    (scores), and crossfit. A result without re-tuning has no final score of its own, so
    it counts as pruned only.
    """
    real = results[
        (results["status"] == "done") & ~results["sample"] & (results[PLACE] != "").all(axis=1)
    ]
    real = real.dropna(subset=["seed", "ratio"]).round({"ratio": 6})
    retuned = real[is_retuned(real)]
    parts = {"pruned": real, "final": retuned, CONTINUED: retuned[retuned["ratio"] == 0]}
    for kind, part in parts.items():
        rows = zip(settings(part), part["ratio"], strict=True)
        known = [identity(values, kind, ratio) for values, ratio in rows]
        phase = "pruned" if kind == "pruned" else "final"
        parts[kind] = part.assign(
            phase=kind,
            identity=pd.Series(known, index=part.index, dtype=object),
            select=part[f"select/{phase}"],
            crossfit=crossfit(part, phase),
            validation=part[f"metric/{phase}"],
        )
    return pd.concat(parts.values(), ignore_index=True)


def is_retuned(results: pd.DataFrame) -> pd.Series:
    enabled = results.get(f"{CONFIG}retune.enabled", pd.Series("", index=results.index))
    return enabled != "False"


def crossfit(results: pd.DataFrame, phase: str) -> pd.Series:
    """Score on select of ``phase``, cross-fitted where an epoch was chosen on it.

    A cut chooses none, and where nothing is cut pruned is dense. NaN where a result does not tell.
    """
    if phase == "final":
        return results["select_crossfit/final"]
    return results["select/pruned"].where(results["ratio"] > 0, results["select_crossfit/dense"])


def identity(values: Mapping[str, str], kind: str, ratio: float) -> str:
    """What decided the score of a result, or decides those of an option, at ``ratio``."""
    known = dict(values)
    if {"retune.epochs", "retune.patience"} <= set(values):
        # What counts is how long re-tuning was, whether asked for or by `retune.budget`.
        epochs, patience = map(str, length(values, ratio))
        known |= {"retune.epochs": epochs, "retune.patience": patience, "retune.budget": ""}
    items = sorted(known.items())
    return "\n".join(f"{key}={value}" for key, value in items if not key.startswith(_WITHOUT[kind]))


def length(values: Mapping[str, str], ratio: float) -> tuple[int, int]:
    """Epochs and patience of re-tuning at ``ratio``; in a job, texts' lengths may shift them."""
    epochs, budget = int(values["retune.epochs"]), float(values.get("retune.budget", 0))
    k = times(epochs, budget, cost_left(1 - ratio))
    return k * epochs, k * int(values["retune.patience"])


def check_folder(own: Path | None) -> None:
    """Raise SkipError where the folder of further sweeps is none."""
    if own and not own.is_dir():
        raise SkipError(f"--config-dir {own}: not a folder")


def read_all(own: Path | None = None) -> list[Screen]:
    """Every sweep file that names a factor: the package's, REPEATS last, then one's ``own``.

    Raises:
        SkipError: a file does not compose.
    """
    names = _with_factor(grids.sweep_dir(), None)
    screens = [read(name) for name in sorted(names, key=REPEATS.__contains__)]
    if own and own.resolve() != grids.sweep_dir().resolve():
        screens += [read(name, own) for name in _with_factor(own, own)]
    return screens


def _with_factor(folder: Path, own: Path | None) -> list[str]:
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    return [name for name in names if _about(name, own).get("factor")]


def _about(name: str, own: Path | None) -> dict[str, Any]:
    about = grids.parsed(name, own).get("sweep")
    return about if isinstance(about, dict) else {}


def read(name: str, own: Path | None = None) -> Screen:
    """The grid of a sweep file (of the folder ``own``), whose ``sweep.factor`` is compared.

    Raises:
        SkipError: it does not compose, or does not sweep over its factor.
    """
    swept, about = grids.swept(name, own), _about(name, own)
    factors = about["factor"]
    if missing := {"task"} - set(swept):
        raise SkipError(f"{name}.yaml: hydra.sweeper.params has no +{missing.pop()}")
    if set(swept) - set(grids.SWEPT) != set(factors):
        file, named = (own or Path("sweeps")) / f"{name}.yaml", ", ".join(factors)
        raise SkipError(f"{file}: sweep.factor is {named}, but it sweeps over another")
    task = f"+task={swept['task'][0]}"
    labels, given = [], []
    for values in product(*(swept[factor] for factor in factors)):
        given.append([f"{factor}={value}" for factor, value in zip(factors, values, strict=True)])
        labels.append(", ".join(given[-1]) if len(factors) > 1 else values[0])
    default, *jobs = grids.composed_each(name, [task, _RETUNED], [[], *given], own)
    asked = swept.get("prune.ratio", [default["prune"]["ratio"]])
    try:
        ratios = [float(ratio) for ratio in asked]
    except ValueError as error:  # `auto`
        why = "must be numbers, at which options compare"
        raise SkipError(f"{name}.yaml: prune.ratio={', '.join(map(str, asked))}: {why}") from error
    by_option = {label: settings_of(job) for label, job in zip(labels, jobs, strict=True)}
    options = {label: _points(values, ratios) for label, values in by_option.items()}
    of_default = _points(settings_of(default), ratios)
    same = (label for label, points in options.items() if points.equals(of_default))
    reference = next(same, next(iter(options)))
    # A sweep may set more than it compares: attribution on fewer texts, say.
    plain = _points(default_settings(task), ratios)
    seeds = [int(seed) for seed in swept.get("seed", [default["seed"]])]
    pairs = product(swept["task"], swept.get("backbone", [default["backbone"]["name"]]), seeds)
    return Screen(
        name=name,
        question=about.get("question") or "",
        factors=factors,
        points=_compared(options, reference),
        reference=reference,
        is_default=options[reference].equals(plain),
        pairs=pd.DataFrame(pairs, columns=PAIR).astype({"seed": "Int64"}),
        folder=own,
        settings=by_option,
    )


@cache
def default_settings(task: str) -> dict[str, str]:
    """Of the job that is told nothing but its ``task`` (``+task=NAME``); composed once for all."""
    return settings_of(grids.composed(grids.PLAIN, [task, _RETUNED]))


def _points(values: Mapping[str, str], ratios: Sequence[float]) -> pd.DataFrame:
    """Per ratio and phase the identities of an option's results and of its dense_continued."""
    rows = [
        (round(ratio, 6), phase, *(identity(values, kind, ratio) for kind in (phase, CONTINUED)))
        for ratio, phase in product(ratios, PHASES)
    ]
    return pd.DataFrame(rows, columns=["ratio", "phase", "identity", CONTINUED])


def _compared(options: Mapping[str, pd.DataFrame], reference: str) -> pd.DataFrame:
    """See `Screen.points`."""
    first = options[reference]
    parts = [first.assign(option=reference, is_reference=True)]
    for label, points in options.items():  # of the reference itself nothing differs
        differs = points["identity"] != first["identity"]
        parts.append(points[differs].assign(option=label, is_reference=False))
    return pd.concat(parts).sort_index(kind="stable", ignore_index=True)
