"""Load frozen backbones, embedded ones, from a folder or from the hub, and build readouts."""

import copy
import json
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel
from xxhash import xxh3_128

from skip_exp.backbones.embedded import find_embedded_folder
from skip_exp.data.batches import tokenize_fast
from skip_exp.errors import ConfigError, SkipError, first_line, shown_names
from skip_exp.models.families import FAMILIES
from skip_exp.models.family import Family, weights_of
from skip_exp.models.readouts import READOUT_CLASSES, Readout
from skip_exp.utils.files import Stamp, stamp
from skip_exp.utils.hub import explain_failure, offline_if_unreachable
from skip_exp.utils.machine import keep_freed

log = logging.getLogger(__name__)
_LOADING = threading.Lock()  # two threads must not read one backbone at once

NOTES = {  # "<short>: <in full>"; tables show the short form
    "embedded:roberta_mini": "distilled from MiniLM: starts from its weights and learnt its "
    "sentence vectors, also on texts of train rows, without their labels",
    "embedded:t5_mini": "saw train labels: its pre-training included those of sst2, mrpc, cola "
    "and rte",
}
HARMLESS = (  # settings that change neither the function nor the training
    "_name_or_path", "_commit_hash", "architectures", "auto_map", "dtype",
    "transformers_version", "use_cache",
)  # fmt: skip
SPECIAL = ("bos", "cls", "eos", "mask", "pad", "sep", "unk")


@dataclass(frozen=True)
class Backbone:
    """A frozen pre-trained model with its tokenizer.

    Attributes:
        path: where it came from (``embedded:minilm``, a hub id or a folder).
        readout: the readout it was loaded for (``head`` needs no language-model head).
        content_hash: see :func:`content_hash`.
        note: a caveat that readers of its scores must know, or empty.
        layers: how many of its first layers were kept; None: all.
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
    def max_positions(self) -> int | None:
        """Longest input in tokens; None: unlimited."""
        return self.family.positions(self.model)


def load_backbone(
    name: str, path: str, family: str, readout: str, layers: int | None = None
) -> Backbone:
    """Load a backbone in fp32, frozen and in eval mode.

    A process reads it once, as long as its files do not change. Every call gets modules of its own
    that share the weights: a fit or a prompt in one does not change another.

    Example:
        >>> backbone = load_backbone("minilm", "embedded:minilm", "bert", "head")
        >>> backbone.max_positions
        512

    Args:
        name: its name in results and tables.
        path: ``embedded:NAME``, a folder or a hub id.
        family: the ``model_type`` of its configuration.
        readout: ``head``, ``mlm``, ``seq2seq`` or ``classifier``.
        layers: how many of the first layers to keep; None: all.

    Raises:
        ConfigError: nothing to load at ``path``, or a model that lacks what ``family``,
            ``readout`` or ``layers`` needs.
    """
    keep_freed()  # a caller is about to compute
    with _LOADING:
        loaded = _load_cached(name, path, family, readout, layers, stamp(Path(_source(path))))
    return replace(loaded, model=copy.deepcopy(loaded.model, weights_of(loaded.model)))


@lru_cache(maxsize=4)  # the last few, as for tokenised data
def _load_cached(
    name: str, path: str, family: str, readout: str, layers: int | None, files: Stamp
) -> Backbone:
    model, tokenizer = _load(path, family, readout)
    described = FAMILIES[family]
    if layers is not None:
        described.keep_first(model, layers)
    described.prepare(model)
    note = NOTES.get(path, "")
    if note:
        log.info("%s: %s", name, note)
    return Backbone(
        name=name,
        path=path,
        readout=readout,
        family=described,
        model=model,
        tokenizer=tokenizer,
        content_hash=content_hash(model, tokenizer),
        note=note,
        layers=layers,
    )


load_backbone.cache_clear = _load_cached.cache_clear  # type: ignore[attr-defined]


def _source(path: str) -> str:
    """Folder or hub id."""
    if path.startswith("embedded:"):
        return str(find_embedded_folder(path.removeprefix("embedded:")))
    folder = Path(path).expanduser()
    return str(folder) if folder.is_dir() else path


def _load(path: str, family: str, readout: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    source = _source(path)
    is_hub = not Path(source).is_dir()
    if is_hub and path.startswith((".", "/", "~")):
        raise ConfigError("backbone.path", path, "no such folder")
    try:
        if is_hub:
            offline_if_unreachable()
        with _quiet():
            return read(source, path, family, readout)
    except SkipError:
        raise
    except Exception as error:  # of many kinds, from transformers and its HTTP client
        reason = f"cannot be loaded: {first_line(error)}"
        if is_hub:
            reason = explain_failure(error, path)
        raise ConfigError("backbone.path", path, reason) from error


def read(
    source: str, path: str, family: str, readout: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read model and tokenizer; code in the folder is never run."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if config.model_type != family:
        raise ConfigError("backbone.family", family, f"{path} is a {config.model_type}")
    described = FAMILIES[family]
    needs = READOUT_CLASSES[readout].needs
    model, info = described.loaders[needs].from_pretrained(
        source,
        dtype=torch.float32,
        output_loading_info=True,
        trust_remote_code=False,
        **described.loader_options(needs),
    )
    missing = sorted(info["missing_keys"])
    if missing:  # transformers would initialise them at random
        names = shown_names(missing, 1)
        raise ConfigError("backbone.readout", readout, f"{path} lacks weights for it: {names}")
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ConfigError("backbone.path", path, "has no fast tokenizer (tokenizer.json)")
    return model, tokenizer


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' load report, which lists heads that no readout uses."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def content_hash(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash weights, tokenizer and settings: equal for the same model from any file.

    XXH3 with 128 bits runs at the speed of memory; SHA-256 would take longer than loading. It does
    not protect against forgery.
    """
    settings = {}
    for key, value in model.config.to_diff_dict().items():
        # Settings that are off are left out: later releases of the library add new ones.
        if key not in HARMLESS and value is not None and value is not False:
            settings[key] = value
    digest = xxh3_128(json.dumps([settings, _tokenizing(tokenizer)], sort_keys=True).encode())
    # By name, because files store weights in any order; whole numbers are no weights.
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_floating_point():
            content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest.update(name.encode())
            digest.update(content.numpy().data)
    return digest.hexdigest()


def _tokenizing(tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """Everything that decides which ids a text becomes."""
    # Those that are off are left out, as above.
    pipeline = json.loads(
        tokenizer.backend_tokenizer.to_str(),
        object_hook=lambda d: {key: value for key, value in d.items() if value is not False},
    )
    for last_call in ("truncation", "padding"):
        pipeline.pop(last_call, None)
    return {
        "vocabulary": json.dumps(pipeline["model"].pop("vocab")),  # in order: sorting is slow
        "pipeline": pipeline,
        "special": {name: getattr(tokenizer, f"{name}_token_id") for name in SPECIAL},
        "truncation": tokenizer.truncation_side,
        "inputs": tokenizer.model_input_names,
    }


def build_readout(
    backbone: Backbone, labels: int, words: tuple[str, ...], pooling: str = "mean"
) -> Readout:
    """Build the readout of ``backbone`` for ``labels`` classes named by ``words``.

    Raises:
        ConfigError: unsuitable words, or a checkpoint of another number of classes.
    """
    kind = READOUT_CLASSES[backbone.readout]
    tokenizer = backbone.tokenizer
    ids = word_pieces(tokenizer, words) if kind.needs in ("mlm", "seq2seq") else []
    if backbone.readout == "mlm":
        for word, pieces in zip(words, ids, strict=True):
            if len(pieces) > 1:
                raise ConfigError("task.words", word, "the mlm readout needs words of one piece")
    if backbone.readout == "classifier":
        classes = backbone.family.head(backbone.model)[1].out_features
        if classes != labels:
            raise ConfigError(
                "backbone.readout",
                "classifier",
                f"the checkpoint has {classes} classes, the task {labels}",
            )
    return kind.build(
        backbone.model,
        backbone.family,
        labels,
        words=ids,
        mask_id=tokenizer.mask_token_id,
        pooling=pooling,
    )


def word_pieces(tokenizer: Any, words: tuple[str, ...]) -> list[list[int]]:
    """Tokenize the label words, one list of ids for each.

    Raises:
        ConfigError: a word is unknown to the tokenizer, or starts with all tokens of another. The
            other would always be at least as likely.
    """
    ids = [tokenize_fast(tokenizer, word, add_special_tokens=False)["input_ids"] for word in words]
    for word, pieces in zip(words, ids, strict=True):
        if not pieces or tokenizer.unk_token_id in pieces:
            raise ConfigError("task.words", word, "the tokenizer does not know it")
    for (other, start), (word, pieces) in permutations(zip(words, ids, strict=True), 2):
        if pieces[: len(start)] == start:
            raise ConfigError(
                "task.words",
                word,
                f"begins with all tokens of {other!r}: it could never be the answer",
            )
    return ids
