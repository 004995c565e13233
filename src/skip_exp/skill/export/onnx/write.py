"""Write a skill's model for onnxruntime, checked against PyTorch before it appears."""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skip_exp.data.batches import collate, tokenize
from skip_exp.errors import SkipError, first_line
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.export.onnx.runtime import (
    INPUTS,
    OnnxRecord,
    check_packages,
    checksum,
    read_tokenizer,
    runner,
)
from skip_exp.skill.record import CONFIG, ONNX, VERSION
from skip_exp.skill.served import Served

# The largest allowed differences, see Differences. The last two hold for 8-bit weights.
TOLERANCE, ROUNDING, NEIGHBOURS = 1e-4, 0.1, 0.01
PROTOBUF_LIMIT = 2_000_000_000  # bytes of one ONNX file; larger weights get a file of their own
CHECKED = (  # from one word to several lines
    "Splendid.",
    "The plot is thin, the jokes are old, and it is an hour too long.",
    "A warm and quietly funny film about two brothers who inherit a lighthouse.",
    "Shares in the company fell by 3.4 % on Tuesday, after it had cut its forecast for the year.",
    "The committee, which met in Geneva last week for the first time since the spring, said that "
    "it would publish its findings before the end of the month, and that none of its members had "
    "been asked by either government to delay them.",
)


def write_onnx(skill: Served, folder: Path, *, int8: bool = False) -> None:
    """Write ``model.onnx`` (dynamic batch and length), ``config.json`` and the tokenizer.

    Raises:
        SkipError: a package is missing, or the answers differ from PyTorch's.
    """
    check_packages("onnx", "onnxruntime", "onnxscript")
    path = folder / ONNX
    try:
        to_onnx(skill, path)
    except torch.onnx.OnnxExporterError as error:
        raise SkipError(f"--format onnx: the exporter failed: {first_line(error)}") from error
    found = compare_onnx(skill, path, CHECKED)
    _refuse_above(TOLERANCE, found.logits, "--format onnx: logits differ from PyTorch's")
    if int8:
        quantise(path)
        found = compare_onnx(skill, path, CHECKED)
        _refuse_above(ROUNDING, found.probabilities, "--int8: probabilities differ from PyTorch's")
        _refuse_above(NEIGHBOURS, found.neighbours, "--int8: probabilities differ within a batch")
    kept = getattr(skill.model.backbone.config, "vocabulary", None)
    more = {"format": "onnx", "int8": int8, "vocabulary": kept}
    fields = OnnxRecord.model_validate(skill.about.stored() | more).stored()
    skill.tokenizer.save_pretrained(folder)
    head = {"version": VERSION, "sha256": checksum(folder, fields)}
    (folder / CONFIG).write_text(json.dumps(head | fields, indent=1) + "\n")
    check_tokens(skill, folder)


def _refuse_above(limit: float, difference: float, what: str) -> None:
    if not difference <= limit:  # NaN is refused, too
        raise SkipError(f"{what} by {difference:.1e}, allowed: {limit}; nothing was written")


class _Served(nn.Module):
    """A model whose prompt is already installed, so that a prefix is a constant."""

    def __init__(self, model: SoftPromptModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        return self.model.logits(input_ids, attention_mask, token_type_ids)


def to_onnx(skill: Served, path: Path) -> None:
    """Write the graph in fp32, unchecked."""
    inputs = _batch(skill, _examples(skill, CHECKED[1:3]))
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    skill.model.prompt.install(skill.model.attention_blocks())
    weights = sum(p.numel() * p.element_size() for p in skill.model.parameters())
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            _Served(skill.model).eval(),
            (),
            path,
            kwargs=inputs,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes=dict.fromkeys(inputs, sizes),
            external_data=weights > PROTOBUF_LIMIT,
            dynamo=True,
            verbose=False,
        )


def quantise(path: Path) -> None:
    """Round the graph in ``path`` to 8 bits, see :mod:`skip_exp.skill.export.onnx.int8`."""
    # An optional dependency, slow to import, and used for 8-bit weights only.
    import onnx
    from onnxruntime.quantization import quant_pre_process  # the same

    from skip_exp.skill.export.onnx.int8 import round_weights  # the same

    simpler = path.with_name("simpler.onnx")
    with _quiet():
        quant_pre_process(path, simpler, skip_symbolic_shape=True)  # merges operators
    model = onnx.load(simpler)
    round_weights(model)
    onnx.save(model, path)
    simpler.unlink()


class Differences(NamedTuple):
    """The largest differences between answers; NaN if any answer is."""

    logits: float  # between PyTorch and onnxruntime
    probabilities: float  # the same
    neighbours: float  # between onnxruntime's probabilities of a text alone and in a batch


@torch.inference_mode()
def compare_onnx(skill: Served, path: Path, texts: Sequence[str]) -> Differences:
    """Compare the graph in ``path`` with PyTorch on each text alone and on all in one batch."""
    run = runner(path, torch.get_num_threads())
    examples = _examples(skill, texts)
    batches = [_batch(skill, batch) for batch in (*([each] for each in examples), examples)]
    expected = torch.cat([skill.model(**inputs) for inputs in batches])
    arrays = [{name: x.numpy() for name, x in inputs.items()} for inputs in batches]
    found = torch.cat([torch.from_numpy(run(inputs)) for inputs in arrays])
    answers = found.softmax(-1)
    alone, together = answers.split(len(texts))
    pairs = (found, expected), (answers, expected.softmax(-1)), (alone, together)
    return Differences(*((a - b).abs().max().item() for a, b in pairs))


def check_tokens(skill: Served, folder: Path) -> None:
    """Refuse a tokenizer file that gives other tokens on its own. Raises SkipError."""
    texts = _examples(skill, CHECKED)
    tokenizer, pad_id = read_tokenizer(folder, skill.about)
    length = skill.about.max_length
    found, expected = (tokenize(each, texts, length)[0] for each in (tokenizer, skill.tokenizer))
    both = zip(found, expected, strict=True)
    same = all(ours[name] == row[name] for ours, row in both for name in ours.keys() & row.keys())
    if not same or pad_id != skill.tokenizer.pad_token_id:
        raise SkipError("--format onnx: the tokenizer's file alone gives other tokens")


def _examples(skill: Served, texts: Sequence[str]) -> list[list[str]]:
    """The texts as examples, or one pair per text where the task takes pairs."""
    pairs = len(skill.about.text) == 2
    return [[text, *([texts[i - 1]] if pairs else [])] for i, text in enumerate(texts)]


def _batch(skill: Served, examples: list[list[str]]) -> dict[str, Tensor]:
    """:func:`_examples` as a padded batch."""
    rows, _ = tokenize(skill.tokenizer, examples, skill.about.max_length)
    batch = collate(rows, skill.tokenizer.pad_token_id)
    return {name: batch[name] for name in INPUTS if name in batch}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about packages it does not need here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
