"""Loading frozen backbones: embedded in a package, from a folder, or from the Hugging Face hub."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel

from skip_exp.errors import ConfigError, SkipError, first_line
from skip_exp.models.content import content_hash
from skip_exp.models.embedded import PACKAGE, SHIPPED, WEIGHTS
from skip_exp.models.families.base import Family, HFModel
from skip_exp.models.families.registry import FAMILIES
from skip_exp.models.families.roberta import as_roberta
from skip_exp.models.minilm import minilm_folder
from skip_exp.models.readouts.build import READOUTS, readout_class
from skip_exp.utils.files import Stamp, stamp
from skip_exp.utils.hub import explain, hub_reachable, offline_if_unreachable
from skip_exp.utils.memory import keep_freed

log = logging.getLogger(__name__)

MINILM = PACKAGE
EMBEDDED = ("minilm", "minilm_roberta", *SHIPPED)
BERT_DERIVED = "embedded:minilm_roberta"
NOTES = {  # "<short>: <in full>"; the short form stands in every table
    BERT_DERIVED: "BERT-derived: minilm's weights in RoBERTa's layout, the same function; "
    "no evidence beside minilm",
    "embedded:roberta_mini": "distilled from MiniLM: starts from its weights and learnt its "
    "sentence vectors, on texts of train rows, too, without their labels",
    "embedded:t5_mini": "saw train labels: pre-trained on those of sst2, mrpc, cola and rte, too",
}


@dataclass(frozen=True)
class Backbone:
    """A frozen pre-trained model with its tokenizer.

    Attributes:
        path: where it came from (``embedded:minilm``, hub id or folder).
        layers: how many of its first layers were kept; None: all.
        readout: the readout it was loaded for (``head`` needs no language-model head).
        content_hash: see :func:`models.content.content_hash`.
        note: what a reader of its scores must know, or empty.
    """

    name: str
    path: str
    readout: str
    family: Family
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    content_hash: str
    note: str = ""
    layers: int | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether it comes without a hub."""
        return self.path.startswith("embedded:")

    @property
    def max_positions(self) -> int | None:
        return self.family.positions(self.model)


def embedded_folder(name: str) -> Path:
    """Folder of an embedded backbone."""
    if name not in EMBEDDED:
        names = ", ".join(EMBEDDED)
        raise ConfigError("backbone.path", f"embedded:{name}", f"embedded backbones: {names}")
    if name in SHIPPED:
        return WEIGHTS / name
    return minilm_folder()


def load_backbone(
    name: str, path: str, family: str, readout: str, layers: int | None = None
) -> Backbone:
    """Load a backbone in fp32, frozen, in eval mode; once per process while its files stay.

    Args:
        layers: keep so many of the first layers only; None: all.

    Raises:
        ConfigError: unknown family or readout, nothing to be had under ``path``, or not what
            ``family``, ``readout`` and ``layers`` need.
    """
    keep_freed()  # whoever loads one is about to compute
    loaded = _loaded(name, path, family, readout, layers, stamp(Path(_source(path))))
    loaded.model.eval()  # a fit that failed may have left it in training mode
    return loaded


@lru_cache(maxsize=4)  # the last few, as tokenised data
def _loaded(
    name: str, path: str, family: str, readout: str, layers: int | None, files: Stamp
) -> Backbone:
    if family not in FAMILIES:
        raise ConfigError("backbone.family", family, f"must be one of {', '.join(FAMILIES)}")
    description = FAMILIES[family]
    if readout_class(readout).needs not in description.loaders:
        has = [name for name, kind in READOUTS.items() if kind.needs in description.loaders]
        raise ConfigError(
            "backbone.readout", readout, f"{family} has the readouts {', '.join(has)}"
        )
    model, tokenizer = _load(path, family, readout)
    if layers is not None:
        _keep_first(model, description, layers)
    description.prepare(model)
    note = NOTES.get(path, "")
    if note:
        log.info("%s: %s", name, note)
    digest = content_hash(model, tokenizer)
    return Backbone(name, path, readout, description, model, tokenizer, digest, note, layers)


load_backbone.cache_clear = _loaded.cache_clear  # type: ignore[attr-defined]


def _keep_first(model: HFModel, family: Family, count: int) -> None:
    """Drop all but the first ``count`` layers of every stack; a T5's final norms stay.

    Raises:
        ConfigError: a stack has fewer.
    """
    stacks = [stack for stack in family.layers(model) if isinstance(stack, nn.ModuleList)]
    most = min(map(len, stacks))
    if count > most:
        raise ConfigError("backbone.layers", count, f"must be at most {most}, all that there are")
    for stack in stacks:
        del stack[count:]
    for key in ("num_hidden_layers", "num_decoder_layers"):  # an export is rebuilt from these
        if hasattr(model.config, key):
            setattr(model.config, key, count)


def _load(path: str, family: str, readout: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    source = _source(path)
    is_hub = not Path(source).is_dir()
    if is_hub and path.startswith((".", "/", "~")):
        raise ConfigError("backbone.path", path, "no such folder")
    try:
        if is_hub:
            offline_if_unreachable()
        with _quiet():
            return _read(source, path, family, readout)
    except SkipError:
        raise
    except Exception as error:  # the library's own, of many kinds, and its HTTP client's
        if not is_hub:
            raise SkipError(
                f"backbone.path={path}: cannot be loaded: {first_line(error)}"
            ) from error
        hint = "" if hub_reachable() else "; minilm, roberta_mini and t5_mini work offline"
        raise ConfigError("backbone.path", path, f"{explain(error, path)}{hint}") from error


def _source(path: str) -> str:
    """Folder or hub id."""
    if path.startswith("embedded:"):
        return str(embedded_folder(path.removeprefix("embedded:")))
    folder = Path(path).expanduser()
    return str(folder) if folder.is_dir() else path


def _read(
    source: str, path: str, family: str, readout: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    converted = path == BERT_DERIVED
    model_type = "roberta" if converted else _model_type(source, path)
    if model_type != family:
        raise ConfigError("backbone.family", family, f"{path} is a {model_type}")
    described, needs = FAMILIES["bert" if converted else family], readout_class(readout).needs
    model, info = described.loaders[needs].from_pretrained(
        source,
        dtype=torch.float32,
        output_loading_info=True,
        trust_remote_code=False,
        **described.loader_options(needs),
    )
    if missing := sorted(info["missing_keys"]):  # the library would make them up at random
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise ConfigError(
            "backbone.readout", readout, f"{path} lacks weights for it: {missing[0]}{more}"
        )
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ConfigError("backbone.path", path, "has no fast tokenizer (tokenizer.json)")
    return as_roberta(model) if converted else model, tokenizer


def _model_type(source: str, path: str) -> str:
    """Of a model that the library knows; code that comes with one is never run, nor asked about."""
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False).model_type
    except ValueError as error:
        why = f"cannot be loaded: {first_line(error)}"
        raise ConfigError("backbone.path", path, why) from error


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
