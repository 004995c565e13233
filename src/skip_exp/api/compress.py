"""``skip_exp.compress``: cut a classifier that is fine-tuned already."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skip_exp.api.fit import compose_job, join_settings, run
from skip_exp.api.task import describe_task, read_given
from skip_exp.config.compose import quote
from skip_exp.errors import SkipError, first_line, shown_names
from skip_exp.outcomes.labels import class_names
from skip_exp.outcomes.registry import OUTCOMES
from skip_exp.skill.record import RECORD, SkillRecord, find_skill, read_about
from skip_exp.utils.files import in_full
from skip_exp.utils.hub import explain_failure, offline_if_unreachable

COMPRESS = "experiment=compress"
CUT_ONLY = ["retune.enabled=false", "attribution=first_order"]  # see studies/cuts.md
LONGEST = 512  # tokens of a text, unless `data.max_length` asks for more
OF_PROBLEM = {kind.problem_type: name for name, kind in OUTCOMES.items()}


def compress(
    model: str | Path,
    data: Any,
    *,
    text: str | Sequence[str] = "text",
    label: str | Sequence[str] = "label",
    validation: Any = None,
    classes: Sequence[str] | None = None,
    ratio: float | str | None = None,
    within: float | None = None,
    retune: bool = True,
    output: str | Path = "outputs",
    overrides: Sequence[str] = (),
) -> Any:
    """Cut a fine-tuned classifier, and re-tune it with its own answers as teacher.

    Example:
        >>> small = skip_exp.compress("my-bert", "tickets.csv", ratio=0.7)
        >>> small.export("my-small-bert")  # a checkpoint for transformers

    The model is the dense model: nothing is tuned before the cut, and at ratio 0 without re-tuning
    the logits are its own. Its ``id2label`` names the classes.

    Args:
        model: folder or hub id of a sequence classifier of a known family, with its tokenizer; or
            folder of an uncut skill, or of its hf export.
        data: rows to re-tune and score on, and the other arguments, as in :func:`skip_exp.fit`.
        validation: rows that the model has not seen. Without them a fifth of ``data`` is scored;
            if the model was trained on that, cutting seems to cost more than it does.
        classes: their names in the model's order, where its ``id2label`` has none.
        within: as in :func:`skip_exp.fit`; points are counted from the given model.
        retune: False trains nothing: it removes what costs each text the least
            (``attribution=first_order``).

    Raises:
        SkipError: anything that you can fix, in one line.
    """
    root = Path(output).expanduser()
    defaults = [COMPRESS]
    if not retune:
        defaults += CUT_ONLY
    # Rows are read first: they are refused sooner than a model.
    cfg = compose_job(join_settings(defaults, ratio, within, overrides), root)
    rows = read_given(data, text, label, validation, cfg)

    # The model has classes, and a way to be read; what the user sets counts more.
    skill = find_skill(model)
    if (skill / RECORD).is_file():
        about = read_about(skill)
        names: list[str] | None = about.labels
        count = len(about.labels)
        kind = about.kind
        defaults += _start_from(skill, about)
    else:
        config = _read_config(str(model))
        names = class_names(config.id2label)
        count = config.num_labels
        kind = OF_PROBLEM.get(config.problem_type, config.problem_type)
        name = Path(os.path.abspath(model)).name  # of ".", too; keeps a link's own
        defaults += [
            f"backbone.name={quote(name)}",
            f"backbone.family={quote(config.model_type)}",
            f"backbone.path={quote(in_full(str(model)))}",
            f"data.max_length={_find_longest(config)}",
        ]
    if classes is not None:
        names = list(map(str, classes))
    if names is not None:
        defaults.append(f"task.labels=[{','.join(map(quote, names))}]")
    if kind:
        defaults.append(f"task.kind={kind}")

    # Composed again, because further values follow from some of these.
    settings = join_settings(defaults, ratio, within, overrides)
    cfg = compose_job(settings, root)
    task = describe_task(rows, cfg, root)
    if kind and kind != task["kind"]:
        raise SkipError(f"compress: the rows have {task['kind']}, the model {kind}")
    _check_classes(task["labels"], count, names is not None)
    return run(cfg, task, settings, root)


def _start_from(skill: Path, about: SkillRecord) -> list[str]:
    """Settings of a job whose dense model is a finished skill, as it is."""
    settings = {
        "tune.start": str(skill),
        # The weights of the layers hold biases and gates.
        "tune.train": "layers" if about.train in ("bias", "gates") else about.train,
        "tune.epochs": 0,
        "data.max_length": about.max_length,
    }
    for key, value in about.backbone.stored().items():
        if key not in ("content_hash", "layers"):  # the job compares both
            settings[f"backbone.{key}"] = value
    for key, value in about.prompt.stored().items():
        settings[f"prompt.{key}"] = value
    if about.rank:
        settings["tune.rank"] = about.rank
    if about.train in ("lora", "full"):  # where less is trained, the layers follow
        settings["retune.train"] = about.train
    overrides = [f"{key}={quote(str(value))}" for key, value in settings.items()]
    overrides.append(f"task.words=[{','.join(map(quote, about.words))}]")
    return overrides


def _find_longest(config: Any) -> int:
    """How many tokens the model reads of a text, up to LONGEST: all that it reads by itself."""
    longest = getattr(config, "max_position_embeddings", LONGEST)  # T5 has no positions
    if "roberta" in config.model_type:  # its positions count from the padding id
        longest -= config.pad_token_id + 1
    return min(longest, LONGEST)


def _check_classes(labels: Sequence[str], count: int, are_named: bool) -> None:
    if len(labels) != count:
        raise SkipError(
            f"compress: the model has {count} classes, "
            f"the data {len(labels)} classes: {shown_names(labels)}"
        )
    if not are_named and list(labels) != [str(i) for i in range(len(labels))]:
        raise SkipError(
            "compress: the model's classes have no names: "
            "give them in its order by --classes A,B (classes=)"
        )


def _read_config(path: str) -> Any:
    """The configuration of a classifier in a folder or on the hub. Raises SkipError."""
    from transformers import AutoConfig  # takes seconds: not for rows that are refused

    folder = Path(path).expanduser()
    try:
        if not folder.is_dir():
            offline_if_unreachable()
        config = AutoConfig.from_pretrained(
            folder if folder.is_dir() else path, trust_remote_code=False
        )
    except Exception as error:  # of many kinds, from transformers and its HTTP client
        reason = first_line(error) if folder.is_dir() else explain_failure(error, path)
        raise SkipError(f"compress: {path}: {reason}") from error
    architecture = " and ".join(config.architectures or [])
    if architecture and "SequenceClassification" not in architecture:
        raise SkipError(f"compress: {path}: a {architecture}, not yet a classifier: fine-tune it")
    return config
