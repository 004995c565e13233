"""Finished results as compact rows, each named by its recipe: what the evidence is made of."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from skip_exp.report.frame import settings
from skip_exp.report.screens import (
    CONTINUED,
    PHASES,
    PLACE,
    Screen,
    crossfit,
    default_settings,
    identity,
    is_retuned,
    length,
)

DEFAULT, AGAIN, SMALLER = "default", "dense_continued", "smaller dense"
JOB = ["task", "backbone", "seed", "ratio", "recipe", "setting", "epochs"]  # what repeats share
# Column of the compact file, in percent: of the frame, a fraction; crossfit: see `screens`.
SCORES = {
    **{"select": "select/final", "select_crossfit": "crossfit"},
    **{"dense_select": "select/dense", "dense_select_crossfit": "select_crossfit/dense"},
    **{"dense": "metric/dense", "pruned": "metric/pruned", "final": "metric/final"},
}
SIZES = {"block_removed": "params/block_pruned", "all_removed": "params/all_pruned"}
PERCENT = SIZES | SCORES
PLAIN = {  # the same of columns that stay as they are
    **{"metric": "metric", "speedup": "latency/speedup", "processor": "latency/device"},
    **{"commit": "git_commit", "finished": "finished", "job": "job_id"},
}
COLUMNS = [*JOB, *PERCENT, *PLAIN]
TEXT = ("task", "backbone", "recipe", "setting", "metric", "processor", "commit", "finished", "job")
_SOME_TASK = "+task=sst2"  # recipes are the same for all of them
_PART = r"(.+)\[(\d+ layers?)\]"  # name of a backbone cut to its first layers


def compact(results: pd.DataFrame, screens: Sequence[Screen]) -> pd.DataFrame:
    """A row of COLUMNS per finished result on real data with a ratio of its own.

    ``results``: of `frame`. ``recipe`` is `DEFAULT`; `AGAIN`, the same re-tuning with nothing cut;
    `SMALLER`, that on the first layers of the backbone; an option of a sweep file; of a sweep
    without the default the sweep, every option of which is a ``setting``; else what differs from
    the default. ``epochs``: of re-tuning, see `screens.length`.
    """
    is_done = (results["status"] == "done") & ~results["sample"] & ~results["searched"]
    real = results[is_done & (results[PLACE] != "").all(axis=1)].dropna(subset=["seed", "ratio"])
    retuned = is_retuned(real)
    # Without re-tuning, final is pruned.
    chosen = crossfit(real, "final").where(retuned, crossfit(real, "pruned"))
    names = pd.DataFrame(
        _named(real, screens, retuned), real.index, columns=["recipe", "setting", "epochs"]
    )
    real = real.assign(crossfit=chosen, **names)
    columns = {name: real[name] for name in JOB}
    columns |= {name: (100 * real[source]).round(2) for name, source in PERCENT.items()}
    columns |= {name: real[source] for name, source in PLAIN.items()}
    rows = pd.DataFrame(columns, columns=COLUMNS).round({"speedup": 3})
    part = rows["backbone"].str.extract(_PART)
    rows["backbone"] = part[0].fillna(rows["backbone"])
    is_smaller = part[1].notna() & (rows["recipe"] == AGAIN)
    rows["setting"] = rows["setting"].mask(is_smaller, part[1])
    rows["recipe"] = rows["recipe"].mask(is_smaller, SMALLER)
    return together([rows])


def together(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Compact rows put together, of repeated jobs the last, with a timing if one has it; sorted."""
    rows = pd.concat(list(parts), ignore_index=True).astype({"seed": int, "epochs": int})
    rows = rows.assign(timed=rows["speedup"].notna())
    rows = rows.sort_values(["finished", "timed"], kind="stable").drop_duplicates(
        "job", keep="last"
    )
    rows = rows.drop_duplicates(JOB, keep="last")
    return rows.sort_values(["backbone", "recipe", *JOB], ignore_index=True)[COLUMNS]


def read(file: Path) -> pd.DataFrame:
    """Compact rows of a file. Raises ValueError where it is none, OSError."""
    rows = pd.read_csv(file, dtype=dict.fromkeys(TEXT, str))
    if missing := set(COLUMNS) - set(rows):
        raise ValueError(f"no {', '.join(sorted(missing))}")
    return rows.fillna(dict.fromkeys(TEXT, ""))


def _named(
    results: pd.DataFrame, screens: Sequence[Screen], retuned: pd.Series
) -> Iterator[tuple[str, str, int]]:
    """Recipe, setting and epochs of re-tuning, per result."""
    ratios = results["ratio"].unique()
    known = _known(screens, ratios)
    plain = default_settings(_SOME_TASK)
    again = {identity(plain, CONTINUED, ratio) for ratio in ratios}  # as long as at any of them
    for values, ratio, is_so in zip(settings(results), results["ratio"], retuned, strict=True):
        phase = "final" if is_so else "pruned"
        epochs = length(values, ratio)[0] if is_so and "retune.epochs" in values else 0
        if is_so and ratio == 0 and identity(values, CONTINUED, 0) in again:
            yield AGAIN, "", epochs
            continue
        recipe, setting = known[phase, ratio].get(identity(values, phase, ratio), ("", ""))
        recipe = recipe or _differing(values)
        yield recipe if is_so or ratio == 0 else f"{recipe}, before re-tuning", setting, epochs


def _known(
    screens: Sequence[Screen], ratios: Iterable[float]
) -> dict[tuple[str, float], dict[str, tuple[str, str]]]:
    """Per phase and ratio the names of what is known, by identity; the default first."""
    plain = default_settings(_SOME_TASK)
    options = [(plain, (DEFAULT, ""))]
    for screen in screens:
        for option, values in screen.settings.items():
            named = f"{screen.title}: {option}", ""
            options.append((dict(values), named if screen.is_default else (screen.title, option)))
    known = {}
    for ratio in ratios:
        for phase in PHASES:
            found = known[phase, ratio] = dict[str, tuple[str, str]]()
            for values, names in options:
                found.setdefault(identity(values, phase, ratio), names)
    return known


def _differing(values: dict[str, str]) -> str:
    plain = default_settings(_SOME_TASK)
    left_out = ("benchmark.", "retune.enabled")
    keys = sorted(key for key in values | plain if not key.startswith(left_out))
    different = [key for key in keys if values.get(key) != plain.get(key)]
    return ", ".join(f"{key}={values.get(key, '-')}" for key in different)
