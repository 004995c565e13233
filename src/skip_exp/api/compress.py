"""``skip_exp.compress``: cut a classifier that is fine-tuned already."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from filelock import FileLock
from transformers import AutoConfig

from skip_exp.api.fit import run
from skip_exp.api.task import RowOptions, build_task
from skip_exp.cache.version import digest
from skip_exp.config.compose import quote
from skip_exp.data.text import shown_names
from skip_exp.errors import SkipError, first_line
from skip_exp.models.backbones import class_names, content_hash
from skip_exp.models.families.registry import FAMILIES
from skip_exp.skill.export.folder import new_folder
from skip_exp.utils.files import in_full
from skip_exp.utils.hub import explain, offline_if_unreachable

CUT_ONLY = ["retune.enabled=false", "attribution=first_order"]  # see docs/results.md
SINGLE, MULTI = "single_label_classification", "multi_label_classification"
MODELS_FOLDER = ".models"  # below the output folder: models that are no checkpoint yet


def compress(
    model: Any,
    tokenizer: Any,
    data: Any,
    labels: Sequence[Any] | None = None,
    *,
    ratio: float | str | None = None,
    within: float | None = None,
    budget: float | None = None,
    retune: bool = True,
    output: str | Path = "outputs",
    overrides: Sequence[str] = (),
    **options: Unpack[RowOptions],
) -> Any:
    """Cut a fine-tuned classifier, and re-tune it with its own answers as teacher.

    Example:
        >>> model = AutoModelForSequenceClassification.from_pretrained("my-bert")
        >>> small = skip_exp.compress(model, tokenizer, "tickets.csv", ratio=0.7)
        >>> small.export("my-small-bert")  # a checkpoint for transformers

    The model is the dense model: nothing is tuned before the cut, and at ratio 0 without re-tuning
    the logits are its own. Its ``id2label`` names the classes.

    Args:
        model: a BERT, RoBERTa, XLM-R, ModernBERT or T5 for sequence classification, or its folder
            or hub id.
        tokenizer: its tokenizer; None for a folder or hub id, which has its own.
        data: rows to re-tune and score on, and the other arguments, as in :func:`skip_exp.fit`.
        within: as in :func:`skip_exp.fit`; points are counted from the given model.
        retune: False trains nothing: it cuts by Fisher information. From 70 % on the answer may
            then be constant.
        options: as in :func:`skip_exp.fit`. ``classes`` names them in the model's order, where its
            ``id2label`` has none.

    Raises:
        SkipError: anything that you can fix, in one line.
    """
    root = Path(output).expanduser()
    config = model.config if hasattr(model, "config") else _config(str(model))
    _check_model(model, tokenizer, config)
    if options.get("classes") is None:
        options["classes"] = class_names(config.id2label)
    kind = getattr(config, "problem_type", None)
    if kind == MULTI:
        options["multilabel"] = True
    task = build_task(data, labels, root, **options)
    if kind == SINGLE and task.config.get("multilabel"):
        raise SkipError(f"compress: the rows have several labels, the model problem_type={SINGLE}")
    are_named = options["classes"] is not None
    _check_classes(task.config["labels"], config.num_labels, are_named)
    path = str(model) if isinstance(model, str | Path) else str(_save(model, tokenizer, root))
    name_of = Path(os.path.abspath(path)).name  # of ".", too; keeps a link's own
    own = {"name": name_of, "family": config.model_type, "path": in_full(path)}
    backbone = [f"backbone.{key}={quote(value)}" for key, value in own.items()]
    settings = ["experiment=compress", *backbone]
    if not retune:
        settings += CUT_ONLY
    return run(task, settings, ratio, overrides, root, within, budget)


def _check_model(model: Any, tokenizer: Any, config: Any) -> None:
    if config.model_type not in FAMILIES:
        raise SkipError(f"compress: a {config.model_type}, not one of {', '.join(FAMILIES)}")
    kind = getattr(config, "problem_type", None)
    if kind not in (None, SINGLE, MULTI):
        raise SkipError(f"compress: the model's problem_type={kind}, not {SINGLE} or {MULTI}")
    if tokenizer is not None and isinstance(model, str | Path):
        raise SkipError(f"compress: tokenizer= is for a model in memory; {model} has its own")


def _check_classes(labels: Sequence[str], count: int, are_named: bool) -> None:
    if len(labels) != count:
        found = f"{len(labels)} classes: {shown_names(labels)}"
        raise SkipError(f"compress: the model has {count} classes, the data {found}")
    if not are_named and [*labels] != [str(i) for i in range(len(labels))]:
        raise SkipError(
            "compress: the model's classes have no names; give id2label in its "
            "config.json, or in Python classes= in its order"
        )


def _config(path: str) -> Any:
    folder = Path(path).expanduser()
    try:
        if not folder.is_dir():
            offline_if_unreachable()
        return AutoConfig.from_pretrained(
            folder if folder.is_dir() else path, trust_remote_code=False
        )
    except Exception as error:  # of many kinds, from transformers and its HTTP client
        why = first_line(error) if folder.is_dir() else explain(error, path)
        raise SkipError(f"compress: {path}: {why}") from error


def _save(model: Any, tokenizer: Any, root: Path) -> Path:
    """A folder with the model and its tokenizer, named by their content."""
    if tokenizer is None:
        raise SkipError("compress: tokenizer=None: a model needs its tokenizer")
    if not getattr(tokenizer, "is_fast", False):
        what = type(tokenizer).__name__
        raise SkipError(f"compress: tokenizer={what}: must be a fast one (tokenizer.json)")
    settings = model.config.to_dict()
    for key in ("architectures", "dtype"):  # saving changes them in the model itself
        settings.pop(key, None)
    identity = [content_hash(model, tokenizer), settings]
    folder = root / MODELS_FOLDER / digest(identity)[:16]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                with new_folder(folder) as temporary:
                    model.save_pretrained(temporary)
                    tokenizer.save_pretrained(temporary)
    except OSError as error:
        raise SkipError(f"output={root}: cannot be written: {first_line(error)}") from error
    return folder
