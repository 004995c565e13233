"""Lineage in W&B: a run's skill is an artifact, made from its data and its backbone.

The inputs are small files that tell what they are; neither rows nor weights are uploaded. W&B keeps
one version of an artifact for each content, so these files hold nothing that changes from job to
job, and no path of a machine.
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

DATA, BACKBONE, SKILL = "dataset", "backbone", "model"  # types of artifacts
_STAGED = "WANDB_DATA_DIR"  # W&B copies what it is to upload below it
# Fields of the result that a skill's artifact tells; measured times would differ from run to run.
ABOUT = (
    *("job_id", "task", "backbone", "family", "prompt/kind", "prompt/length", "readout", "seed"),
    *("attribution", "ratio", "ratio_reached", "metric/name", "metric/dense", "metric/final"),
    *("params/block_pruned", "params/all_pruned", "data_is_sample"),
)


@contextmanager
def staged(folder: Path) -> Iterator[None]:
    """What W&B is to upload waits in ``folder``/wandb, or where WANDB_DATA_DIR says.

    Its own default is the home folder, where a run that is synced on another day, or from another
    node of a cluster, may not find it.
    """
    given = os.environ.get(_STAGED)
    os.environ[_STAGED] = given or str(folder / "wandb")
    try:
        yield
    finally:
        if given is None:
            del os.environ[_STAGED]


def log_artifacts(
    run: wandb.Run, result: Mapping[str, Any], folder: Path, fingerprint: str, content_hash: str
) -> None:
    """The data and the backbone of a finished job become inputs of its run, its skill the output.

    Args:
        folder: of the job; ``result["skill"]`` is in it.
        fingerprint: of the data.
        content_hash: of the backbone.
    """
    for used in (data(result, fingerprint), backbone(result, content_hash)):
        # As `use_artifact`, which refuses to be offline and waits for the server without a limit.
        run._log_artifact(used, is_user_created=True, use_after_commit=True)
    made = wandb.Artifact(
        _name("skill", result["task"], result["backbone"], _sample(result)), SKILL
    )
    flat = results.flatten(result)
    made.metadata = {name: flat[name] for name in ABOUT if name in flat}
    made.add_dir(str(folder / result["skill"]))
    run.log_artifact(made)


def data(result: Mapping[str, Any], fingerprint: str) -> wandb.Artifact:
    """``data-<task>``: which rows they were; of generated ones name and metadata say so."""
    source = result["data_source"]
    about = {
        "task": result["task"],
        "source": "local" if source.startswith("local:") else source,
        "is_sample": result["data_is_sample"],
        "fingerprint": fingerprint,
    }
    return _told(_name("data", result["task"], _sample(result)), DATA, about)


def backbone(result: Mapping[str, Any], content_hash: str) -> wandb.Artifact:
    """``backbone-<name>``: which weights and which tokenizer."""
    about = {name: result[name] for name in ("backbone", "family", "backbone_note")}
    about["content_hash"] = content_hash
    return _told(_name("backbone", result["backbone"]), BACKBONE, about)


def _told(name: str, kind: str, about: dict[str, Any]) -> wandb.Artifact:
    """An artifact of one file, which holds what its metadata tell."""
    artifact = wandb.Artifact(name, kind, metadata=about)
    with artifact.new_file(f"{kind}.json") as file:
        json.dump(about, file, indent=1, sort_keys=True)
    return artifact


def _sample(result: Mapping[str, Any]) -> str:
    return "sample" if result["data_is_sample"] else ""


def _name(*parts: str) -> str:
    """Of letters that W&B takes, and no longer than it takes."""
    return re.sub(r"[^a-zA-Z0-9_.-]", "_", "-".join(filter(None, parts)))[:128]
