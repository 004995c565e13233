"""Results as one pandas frame, a row per result: every table and figure here is a view of it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp import results
from skip_exp.config.checks import STATES
from skip_exp.config.groups import DIGITS
from skip_exp.errors import SkipError
from skip_exp.results import Result

PREFIX = "config/"  # what the columns of `comparable` start with
SCORES = [f"{split}/{state}" for split in ("metric", "select") for state in STATES]
TEXT = [  # never missing: "" where a result lacks the field
    "job_id",
    "status",
    "error",
    "sweep",
    "task",
    "backbone",
    "backbone_note",
    "attribution",
    "metric",
    "data",
    "finished",
    "git_commit",
    "versions/code",
    "versions/parts",
    "versions/torch",
    "latency/device",
    "latency/dtype",
    "path",
]
NUMBERS = [  # NaN where a result lacks the field
    "seed",
    "ratio",
    "train_rows",
    "n_eval",
    "duplicates",
    *SCORES,
    "params/block_pruned",
    "params/all_pruned",
    "flops/ratio",
    "seconds/total",
    "skill_bytes",
    "latency/dense_ms",
    "latency/final_ms",
    "latency/batch",
    "latency/seq_len",
    "latency/threads",
    "latency/speedup",  # none where the timing was disturbed
    "majority",  # of the main metric: score of always answering the majority class
]
# searched: the job searched for its ratio; contended: its timing was disturbed.
BOOLEANS = ["sample", "searched", "contended"]

PRECISION = "trainer.precision"  # of a result the one that its trainers used, `auto` resolved
ROWS = "data.hash"  # no key: the rows that a result's job read, wherever they were
START = "start"  # no key: the skill that tuning started from, or none

# Config keys that have columns of their own, or that do not change the numbers.
NOT_COMPARED = {
    "seed",
    "output_dir",
    "prune.ratio",
    "attribution._target_",
    "data.source",
    "data.dir",
    "trainer.progress",
    "trainer.accelerator",
    "task.name",
    "backbone.name",
    "backbone.family",
}
NOT_COMPARED_GROUPS = ("logger.", "cache.", "sweep.", "task.hub.", "task.files.")
GOAL = f"{PREFIX}prune.within"  # where it is set, a job searched for its ratio
# Named wherever they are set, even where the other results lack the key.
NAMED = [GOAL, f"{PREFIX}prune.layers", f"{PREFIX}data.train_rows"]


def load(paths: Sequence[Path | str]) -> pd.DataFrame:
    """The results of folders and of files ``result.json``, in order of `order_runs`.

    Raises:
        SkipError: a path or every result is missing.
    """
    for path in paths:
        if not Path(path).exists():
            raise SkipError(f"{path}: no such file or folder")
    stored = results.load(paths)
    if not stored:
        raise SkipError(f"no {results.FILE} below {', '.join(map(str, paths))}: run a job first")
    return order_runs(rows(stored))


def rows(stored: Iterable[Result]) -> pd.DataFrame:
    """One row per result, in the order given: TEXT, NUMBERS, BOOLEANS and ``config/*``."""
    frame = pd.DataFrame([_row(result) for result in stored])
    settings = [name for name in frame if str(name).startswith(PREFIX)]
    frame = frame.reindex(columns=TEXT + NUMBERS + BOOLEANS + settings)
    texts = TEXT + settings
    frame[texts] = frame[texts].astype(object).where(frame[texts].notna(), "")
    # Not a number: missing, or a ratio that is not found yet.
    frame[NUMBERS] = frame[NUMBERS].apply(pd.to_numeric, errors="coerce").astype(float)
    frame = frame.astype(dict.fromkeys(BOOLEANS, bool) | {"seed": "Int64"})
    # A copy is in one piece: pandas warns of columns that are added to many pieces.
    return frame.assign(ratio=frame["ratio"].round(DIGITS)).copy()


def order_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Repeated runs with the one that counts, the latest, last; a column ``variant``, see there."""
    keys = ["finished", "contended", "path"]
    frame = frame.sort_values(keys, ascending=[True, False, True], ignore_index=True)
    return frame.assign(variant=variants(frame))


def _row(result: Result) -> dict[str, Any]:
    flat = results.flatten(result)
    metric = flat.get("metric/name")
    settings = comparable(result.config)
    settings[PRECISION] = result.precision or ""
    settings[ROWS] = (result.data_hash or "")[:8]
    if result.status == "done":
        settings[START] = result.start or "none"
    columns = {PREFIX + key: value for key, value in settings.items()}
    described = {
        "path": result.path,
        "metric": metric,
        "data": "sample" if result.data_is_sample else (result.data_source or "").split(":")[0],
        "majority": 0.0 if metric == "matthews" else flat.get(f"majority/{metric}"),
        "sample": result.data_is_sample,
        "searched": columns.get(GOAL, "None") != "None",
        "contended": bool(result.latency.contended),
    }
    return {name: flat.get(name) for name in TEXT + NUMBERS} | described | columns


def comparable(config: Mapping[str, Any]) -> dict[str, str]:
    """The config values that can make two results differ, seed aside: dotted key to text."""
    flat: dict[str, str] = {}
    for key, value in results.join_keys(config, ".").items():
        if key not in NOT_COMPARED and not key.startswith(NOT_COMPARED_GROUPS):
            text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
            flat[key] = text or "(empty)"  # "" says that there is no such key
    return flat


def variants(frame: pd.DataFrame) -> list[str]:
    """Per row the config values that not all results of its task, backbone and method share.

    The goal of a search for the ratio, a limit on layers and one on train rows are always named.
    """
    config = frame[[name for name in frame if str(name).startswith(PREFIX)]]
    config = config.where(config != "")
    if config.empty:
        return [""] * len(frame)
    groups = config.groupby([frame["task"], frame["backbone"], frame["attribution"]], sort=False)
    named = groups.transform("nunique") > 1
    for name in named.columns.intersection(NAMED):
        named[name] |= config[name].notna() & (config[name] != "None")
    return name_values(config.where(named).fillna(""))


def name_values(columns: pd.DataFrame) -> list[str]:
    """Per row ``tune.lr=0.1, tune.epochs=3``, without what is empty."""
    texts = []
    for row in columns.to_dict("records"):
        keys = [str(name) for name, value in row.items() if value]
        settings = [f"{key.removeprefix(PREFIX)}={row[key]}" for key in keys]
        texts.append(", ".join(settings))
    return texts
