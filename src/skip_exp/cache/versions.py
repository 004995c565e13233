"""Which version of the code computed a number: hashes of sources (torch stays out)."""

import hashlib
import json
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# What a stage's numbers depend on, beside its key: edits elsewhere leave its entries valid.
SOURCES = {
    "tune": ("models", "data", "training"),
    "attribute": ("models", "data", "training", "attribution"),
    "score": ("models", "data", "training"),
    "teacher": ("models", "data", "training"),
    "probe": (
        *("models", "data", "training", "attribution", "pruning", "callbacks", "phases"),
        "pipeline.py",
    ),
    "latency": ("models", "pruning/latency.py", "machine/timing.py"),
    "job": ("pruning", "callbacks", "job.py", "pipeline.py", "phases", "training"),
}


def digest(value: object) -> str:
    """SHA-256 of a JSON-like value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@lru_cache
def code_version(stage: str) -> str:
    """Hash of the stage's own sources and of the libraries that compute it; never the commit."""
    content = hashlib.sha256()
    for part in SOURCES[stage]:
        root = PACKAGE / part
        for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            content.update(file.relative_to(PACKAGE).as_posix().encode() + file.read_bytes())
    for library in ("torch", "transformers"):
        content.update(version(library).encode())
    return content.hexdigest()


def job_code() -> str:
    """Hash of all code that a job's numbers depend on, as it stands in a result and in its id."""
    return digest([code_version("attribute"), code_version("job")])[:16]
