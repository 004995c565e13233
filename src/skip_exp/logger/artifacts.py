"""Lineage in W&B: a run uses a data and a backbone artifact and logs its skill as an artifact.

The inputs are small JSON descriptions; neither rows nor weights are uploaded. W&B creates a new
version whenever content changes, so the descriptions hold no path and nothing specific to a job.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb

from skip_exp import results

DATA, BACKBONE, SKILL = "dataset", "backbone", "model"  # artifact types
_STAGED = "WANDB_DATA_DIR"  # W&B stages uploads in this folder
# Result fields in the metadata of a skill artifact; without measured times, which vary.
ABOUT = (
    *("job_id", "task", "backbone", "family", "prompt/kind", "prompt/length", "readout", "seed"),
    *("attribution", "ratio", "ratio_reached", "metric/name", "metric/dense", "metric/final"),
    *("params/block_pruned", "params/all_pruned", "data_is_sample"),
)


@contextmanager
def staged(folder: Path) -> Iterator[None]:
    """Stage W&B uploads in ``folder``/wandb unless WANDB_DATA_DIR is set.

    W&B's default is the home folder, which may be missing when another cluster node syncs the run.
    """
    if os.environ.get(_STAGED):
        yield
        return
    os.environ[_STAGED] = str(folder / "wandb")
    try:
        yield
    finally:
        del os.environ[_STAGED]


def log_artifacts(
    run: wandb.Run,
    result: Mapping[str, Any],
    folder: Path,
    fingerprint: str,
    content_hash: str,
    with_skill: bool = True,
) -> None:
    """Log a finished job's data and backbone as inputs of its run, and its skill as output.

    Args:
        folder: the job's folder, which contains ``result["skill"]``.
        fingerprint: hash of the data.
        content_hash: hash of the backbone.
        with_skill: False for a skill that is a whole model.
    """
    for used in (data(result, fingerprint), backbone(result, content_hash)):
        # Like `use_artifact`, which fails offline and waits for the server without a timeout.
        run._log_artifact(used, is_user_created=True, use_after_commit=True)
    if not with_skill:
        return
    flat = results.flatten(result)
    about = {name: flat[name] for name in ABOUT if name in flat}
    name = _name("skill", result["task"], result["backbone"], _sample(result))
    made = wandb.Artifact(name, SKILL, metadata=about)
    made.add_dir(str(folder / result["skill"]))
    run.log_artifact(made)


def data(result: Mapping[str, Any], fingerprint: str) -> wandb.Artifact:
    """``data-<task>``: describes the rows; name and metadata mark stand-ins."""
    source = result["data_source"]
    about = {
        "task": result["task"],
        "source": "local" if source.startswith("local:") else source,
        "is_sample": result["data_is_sample"],
        "fingerprint": fingerprint,
    }
    return _described(_name("data", result["task"], _sample(result)), DATA, about)


def backbone(result: Mapping[str, Any], content_hash: str) -> wandb.Artifact:
    """``backbone-<name>``: describes the weights and the tokenizer."""
    about = {name: result[name] for name in ("backbone", "family", "backbone_note")}
    about["content_hash"] = content_hash
    return _described(_name("backbone", result["backbone"]), BACKBONE, about)


def _described(name: str, kind: str, about: dict[str, Any]) -> wandb.Artifact:
    """An artifact whose only file repeats its metadata."""
    artifact = wandb.Artifact(name, kind, metadata=about)
    with artifact.new_file(f"{kind}.json") as file:
        json.dump(about, file, indent=1, sort_keys=True)
    return artifact


def _sample(result: Mapping[str, Any]) -> str:
    return "stand-in" if result["data_is_sample"] else ""


def _name(*parts: str) -> str:
    """A name with the characters and length that W&B allows."""
    return re.sub(r"[^a-zA-Z0-9_.-]", "_", "-".join(filter(None, parts)))[:128]
