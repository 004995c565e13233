"""Write a skill's model for onnxruntime, checked before it appears.

Its answers are compared with PyTorch's; those in 8 bits also with fp32, on the rows on which the
skill's job made its choices.
"""

import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from skip_exp.config.groups import TaskConfig
from skip_exp.data.batches import Batch, Row, collate, tokenize
from skip_exp.data.rows import get_labels, get_texts
from skip_exp.errors import SkipError
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.outcomes.registry import OUTCOMES, Outcome
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.evaluate import score_answers
from skip_exp.skill.export.onnx import trace
from skip_exp.skill.export.onnx.runtime import (
    INPUTS,
    OnnxRecord,
    OnnxSkill,
    check_packages,
    checksum,
    read_tokenizer,
    runner,
)
from skip_exp.skill.files import read_job_rows
from skip_exp.skill.ranges import measure_ranges
from skip_exp.skill.record import CONFIG, ONNX, VERSION, SkillRecord
from skip_exp.utils import console

log = logging.getLogger(__name__)

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
TOLERANCE = 1e-4  # the largest allowed difference of logits in fp32
ALLOWED = 0.005  # of 8 bits: loss of the main metric, a fraction
TRACER = {"max_workers": 1, "env": {"OMP_NUM_THREADS": "1"}}
IDLE = 60  # seconds that it waits for another model
DRIFT = 0.1  # the same: largest change of a probability, where the job's rows are not there
CHECKED = (  # from one word to several lines
    "Splendid.",
    "The plot is thin, the jokes are old, and it is an hour too long.",
    "A warm and quietly funny film about two brothers who inherit a lighthouse.",
    "Shares in the company fell by 3.4 % on Tuesday, after it had cut its forecast for the year.",
    "The committee, which met in Geneva last week for the first time since the spring, said that "
    "it would publish its findings before the end of the month, and that none of its members had "
    "been asked by either government to delay them.",
)


def write_onnx(
    folder: Path,
    about: SkillRecord,
    model: SoftPromptModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    int8: bool = False,
    ranges: Mapping[str, Tensor] | None = None,
    graph: Path | None = None,
) -> "Differences":
    """Write ``model.onnx`` (dynamic batch and length), ``config.json`` and the tokenizer.

    Returns how far answers to a few texts are from PyTorch's.

    Args:
        int8: round weights and activations to 8 bits.
        ranges: of the activations (see :func:`skip_exp.skill.ranges.measure_ranges`); without any,
            those on the texts that the export is checked on.
        graph: folder of an earlier export of this model by this code, whose graph is copied: it is
            checked as a new one.

    Raises:
        SkipError: a package is missing, or in fp32 the answers differ from PyTorch's.
    """
    check_packages("onnx", "onnxruntime", "onnxscript")  # before a trace, which takes long
    path = folder / ONNX
    checked = tokenize(tokenizer, examples_of(about, CHECKED), about.max_length)[0]
    pad_id = tokenizer.pad_token_id
    if graph is None:
        rounding = (ranges or measure_ranges(model, checked, pad_id)) if int8 else None
        to_onnx(model, collate(checked[1:3], pad_id), path, rounding)
    else:
        log.info("the graph is that of %s", graph)
        shutil.copytree(graph, folder, dirs_exist_ok=True)
    differences = compare_onnx(model, path, checked, pad_id, about.outcome)
    if not int8 and not differences.logits <= TOLERANCE:  # NaN is refused, too
        raise SkipError(
            f"--format onnx: logits differ from PyTorch's by {differences.logits:.1e}, "
            f"allowed: {TOLERANCE}; nothing was written"
        )
    vocabulary = getattr(model.backbone.config, "vocabulary", None)
    described = about.stored() | {"format": "onnx", "int8": int8, "vocabulary": vocabulary}
    fields = OnnxRecord.model_validate(described).stored() | describe_model(about, model, pad_id)
    tokenizer.save_pretrained(folder)
    head = {"version": VERSION, "sha256": checksum(folder, fields)}
    (folder / CONFIG).write_text(json.dumps(head | fields, indent=1) + "\n")
    # An export is read with its tokenizer's file alone, which may lack what transformers adds.
    file_tokenizer, file_pad_id = read_tokenizer(folder, about)
    rows, _ = tokenize(file_tokenizer, examples_of(about, CHECKED), about.max_length)
    is_same = all(row | wanted == row for row, wanted in zip(rows, checked, strict=True))
    if not is_same or file_pad_id != pad_id:
        raise SkipError("--format onnx: the tokenizer's file alone gives other tokens")
    return differences


def describe_model(about: SkillRecord, model: SoftPromptModel, pad_id: int) -> dict[str, Any]:
    """What servers read of a checkpoint: the fields that one of the backbone has."""
    config: Any = model.backbone.config
    fields = {
        "architectures": [MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[config.model_type]],
        "model_type": config.model_type,
        "id2label": {str(i): label for i, label in enumerate(about.labels)},
        "label2id": {label: i for i, label in enumerate(about.labels)},
        "problem_type": about.outcome.problem_type,
        "vocab_size": len(model.backbone.get_input_embeddings().weight),
        "pad_token_id": pad_id,
    }
    for name in SIZES:
        if getattr(config, name, None) is not None:
            fields[name] = getattr(config, name)
    return fields


def to_onnx(
    model: SoftPromptModel,
    batch: Batch,
    path: Path,
    ranges: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the graph, unchecked; ``batch`` is an example. Raises SkipError.

    Args:
        ranges: with these, linears and embeddings have 8 bits; None: the graph is in fp32.
    """
    # One program traces many models: its imports take as long as a trace.
    tracer = get_reusable_executor(**TRACER, timeout=IDLE, initializer=trace.say_nothing)
    try:
        tracer.submit(trace.trace, model, _select_inputs(batch), ranges, path.absolute()).result()
    except Exception as error:
        reason = str(error).rpartition("\n")[2]
        raise SkipError(f"--format onnx: the exporter failed: {reason}") from error


class Differences(NamedTuple):
    """The largest differences between answers; NaN if any answer is."""

    logits: float  # between PyTorch and onnxruntime, before the temperature
    probabilities: float  # the same


@torch.inference_mode()
def compare_onnx(
    model: SoftPromptModel,
    path: Path,
    rows: Sequence[Row],
    pad_id: int,
    outcome: Outcome = OUTCOMES["one_label"],
) -> Differences:
    """Compare the graph in ``path`` with PyTorch on each row alone and on all in one batch."""
    run = runner(path, torch.get_num_threads())
    logits = []
    expected = []
    for batch_rows in [[row] for row in rows] + [rows]:
        batch = _select_inputs(collate(batch_rows, pad_id))
        expected.append(model(**batch).numpy())
        logits.append(run({name: x.numpy() for name, x in batch.items()}))
    answers = np.concatenate(logits)
    wanted = np.concatenate(expected)
    drift = outcome.probabilities(answers) - outcome.probabilities(wanted)
    return Differences(
        logits=float(abs(answers - wanted).max()) * model.temperature,
        probabilities=float(abs(drift).max()),
    )


def examples_of(about: SkillRecord, texts: Sequence[str]) -> list[list[str]]:
    """The texts as examples; where the task takes pairs, each with the one before it."""
    if len(about.text) == 1:
        return [[text] for text in texts]
    return [[text, texts[i - 1]] for i, text in enumerate(texts)]


def _select_inputs(batch: Batch) -> Batch:
    return {name: batch[name] for name in INPUTS if name in batch}


@dataclass(frozen=True)
class Rounding:
    """What 8 bits change.

    Attributes:
        rows: that were compared.
        before, after: the main metric, as a fraction.
        equal: fraction of the rows that have the same answer.
        drift: the largest change of a probability of a row, mean over the rows.
    """

    metric: str
    rows: int
    before: float
    after: float
    equal: float
    drift: float

    def __str__(self) -> str:
        scores = f"{self.metric} {100 * self.after:.1f}, in fp32 {100 * self.before:.1f}"
        same = f"{100 * self.equal:.1f} % equal answers, mean drift {self.drift:.3f}"
        return f"{scores}; {same}; on {self.rows} rows of the selection slice"

    @property
    def is_allowed(self) -> bool:
        """Whether the loss is at most ``ALLOWED``, its standard error not counted.

        A row whose answer changes moves a metric by about 1 / rows.
        """
        error = math.sqrt((1 - self.equal) / self.rows)
        return self.before - self.after - error <= ALLOWED


def check_rounding(
    skill: Classifier, source: Path | None, folder: Path, drift: float
) -> Rounding | None:
    """Log what 8 bits change, and return it; None where the job's rows are gone.

    Args:
        skill: read from ``source``.
        folder: of its export.
        drift: of a probability on texts of no task, which decides where the job's rows are gone.

    Raises:
        SkipError: the export loses too much.
    """
    try:
        with console.say_nothing():
            rows = read_job_rows(skill.about, source)
    except SkipError as error:
        if not drift <= DRIFT:  # NaN is refused, too
            raise SkipError(
                f"--int8: probabilities differ from PyTorch's by {drift:.2g} on five texts, "
                f"allowed: {DRIFT}; leave out --int8"
            ) from error
        log.info("8 bits: not compared with fp32 on the job's rows: %s", error)
        return None
    rounding = compare_rounded(skill, OnnxSkill.load(folder), rows.spec, rows.select)
    if not rounding.is_allowed:
        raise SkipError(f"--int8: {rounding}; leave out --int8, or cut less")
    log.info("8 bits: %s", rounding)
    return rounding


def compare_rounded(
    plain: Classifier, rounded: Classifier, spec: TaskConfig, rows: Sequence[Row]
) -> Rounding:
    """Compare a skill with its 8-bit export on rows of its task. Raises SkipError."""
    outcome = plain.about.outcome
    threshold = plain.about.threshold
    metric = spec.metrics[0]
    texts = [list(texts) for texts in get_texts(rows)]
    true = np.array(get_labels(rows))
    before = np.array(plain.probabilities(texts))
    after = np.array(rounded.probabilities(texts))
    is_equal = outcome.give(before, threshold) == outcome.give(after, threshold)
    return Rounding(
        metric=metric,
        rows=len(texts),
        before=score_answers(spec, before, true, threshold)[metric],
        after=score_answers(spec, after, true, threshold)[metric],
        equal=float(is_equal.reshape(len(texts), -1).all(1).mean()),
        drift=float(np.abs(before - after).max(1).mean()),
    )
