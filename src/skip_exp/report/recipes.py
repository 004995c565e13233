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
)

DEFAULT, AGAIN, SMALLER = "default", "dense_continued", "smaller dense"
JOB = ["task", "backbone", "seed", "ratio", "recipe", "setting", "epochs"]  # what repeats share
# Column of the compact file, in percent: of the frame, a fraction; crossfit: see `screens`.
PERCENT = {
    **{"block_removed": "params/block_pruned", "all_removed": "params/all_pruned"},
    **{"select": "select/final", "select_crossfit": "crossfit"},
    **{"dense_select": "select/dense", "dense_select_crossfit": "select_crossfit/dense"},
    **{"dense": "metric/dense", "pruned": "metric/pruned", "final": "metric/final"},
}
PLAIN = {  # the same of columns that stay as they are
    **{"epochs": "method/epochs", "metric": "metric", "speedup": "latency/speedup"},
    **{"processor": "latency/device", "commit": "git_commit", "finished": "finished"},
    "job": "job_id",
}
COLUMNS = [*JOB[:6], *PERCENT, *PLAIN]
TEXT = ("task", "backbone", "recipe", "setting", "metric", "processor", "commit", "finished", "job")
_SOME_TASK = "+task=sst2"  # recipes are the same for all of them
_PART = r"(.+)\[(\d+ layers?)\]"  # name of a backbone cut to its first layers


def compact(results: pd.DataFrame, screens: Sequence[Screen]) -> pd.DataFrame:
    """A row of COLUMNS per finished result on real data with a ratio of its own.

    ``results``: of `frame`. ``recipe`` is `DEFAULT`; `AGAIN`, the same re-tuning with nothing cut;
    `SMALLER`, that on the first layers of the backbone; an option of a sweep file; of a sweep
    without the default the sweep, every option of which is a ``setting``; else what differs from
    the default. ``epochs``: of re-tuning, at most.
    """
    is_done = (results["status"] == "done") & ~results["sample"] & ~results["searched"]
    real = results[is_done & (results[PLACE] != "").all(axis=1)].dropna(subset=["seed", "ratio"])
    names = list(_named(real, screens))
    pruned = crossfit(real, "pruned")
    real = real.assign(crossfit=crossfit(real, "final").where(is_retuned(real), pruned))
    columns = {name: real[name] for name in ("task", "backbone", "seed", "ratio")}
    columns |= {"recipe": [recipe for recipe, _ in names], "setting": [of for _, of in names]}
    columns |= {name: (100 * real[source]).round(2) for name, source in PERCENT.items()}
    columns |= {name: real[source] for name, source in PLAIN.items()}
    rows = pd.DataFrame(columns, columns=COLUMNS)
    part = rows["backbone"].str.extract(_PART)
    rows["backbone"] = part[0].fillna(rows["backbone"])
    is_smaller = part[1].notna() & (rows["recipe"] == AGAIN)
    rows["setting"] = rows["setting"].mask(is_smaller, part[1])
    rows["recipe"] = rows["recipe"].mask(is_smaller, SMALLER)
    return together([rows])


def together(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Compact rows put together, of repeated jobs the last; sorted."""
    rows = pd.concat(list(parts), ignore_index=True).astype({"seed": int, "epochs": float})
    rows = rows.sort_values("finished", kind="stable").drop_duplicates("job", keep="last")
    rows = rows.drop_duplicates(JOB, keep="last")
    return rows.sort_values(["backbone", "recipe", *JOB], ignore_index=True)[COLUMNS]


def read(file: Path) -> pd.DataFrame:
    """Compact rows of a file. Raises ValueError where it is none, OSError."""
    rows = pd.read_csv(file, dtype=dict.fromkeys(TEXT, str))
    if missing := set(COLUMNS) - set(rows):
        raise ValueError(f"no {', '.join(sorted(missing))}")
    return rows.fillna(dict.fromkeys(TEXT, ""))


def _named(results: pd.DataFrame, screens: Sequence[Screen]) -> Iterator[tuple[str, str]]:
    """Recipe and setting per result."""
    known = _known(screens, results["ratio"].unique())
    rows = zip(settings(results), results["ratio"], is_retuned(results), strict=True)
    for values, ratio, retuned in rows:
        phase = "final" if retuned else "pruned"
        if retuned and ratio == 0 and identity(values, CONTINUED, 0) in known[CONTINUED]:
            yield AGAIN, ""
            continue
        recipe, setting = known[phase].get(identity(values, phase, ratio), ("", ""))
        recipe = recipe or _differing(values)
        yield recipe if retuned or ratio == 0 else f"{recipe}, before re-tuning", setting


def _known(
    screens: Sequence[Screen], ratios: Iterable[float]
) -> dict[str, dict[str, tuple[str, str]]]:
    """Per phase the names of what is known, by identity; the default first."""
    plain = default_settings(_SOME_TASK)
    options = [(plain, (DEFAULT, ""))]
    for screen in screens:
        for option, values in screen.settings.items():
            named = f"{screen.title}: {option}", ""
            options.append((dict(values), named if screen.is_default else (screen.title, option)))
    known: dict[str, dict[str, tuple[str, str]]] = {phase: {} for phase in (*PHASES, CONTINUED)}
    for ratio in ratios:
        known[CONTINUED][identity(plain, CONTINUED, ratio)] = AGAIN, ""
        for values, names in options:
            for phase in PHASES:
                known[phase].setdefault(identity(values, phase, ratio), names)
    return known


def _differing(values: dict[str, str]) -> str:
    plain = default_settings(_SOME_TASK)
    left_out = ("benchmark.", "retune.enabled")
    keys = sorted(key for key in values | plain if not key.startswith(left_out))
    different = [key for key in keys if values.get(key) != plain.get(key)]
    return ", ".join(f"{key}={values.get(key, '-')}" for key in different)
