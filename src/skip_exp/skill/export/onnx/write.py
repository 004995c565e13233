"""Write a skill's model for onnxruntime, checked against PyTorch before it appears."""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from skip_exp.data.batches import collate
from skip_exp.errors import SkipError, first_line
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.classifier import encode_texts
from skip_exp.skill.export.onnx.int8 import round_weights
from skip_exp.skill.export.onnx.runtime import (
    INPUTS,
    OnnxRecord,
    check_packages,
    encode,
    read_tokenizer,
    runner,
    sha256,
)
from skip_exp.skill.load import Skill
from skip_exp.skill.record import CONFIG, ONNX, VERSION

TOLERANCE = 1e-4  # between the logits of PyTorch and onnxruntime
ROUNDING = 0.1  # the same between probabilities, where the weights were rounded to 8 bits
NEIGHBOURS = 0.01  # of a text's probabilities, alone and in a batch: rounding of a rounding
PROTOBUF_LIMIT = 2_000_000_000  # bytes of one ONNX file; larger weights go beside it
CHECKED = (  # from one word to several lines
    "Splendid.",
    "The plot is thin, the jokes are old, and it is an hour too long.",
    "A warm and quietly funny film about two brothers who inherit a lighthouse.",
    "Shares in the company fell by 3.4 % on Tuesday, after it had cut its forecast for the year.",
    "The committee, which met in Geneva last week for the first time since the spring, said that "
    "it would publish its findings before the end of the month, and that none of its members had "
    "been asked by either government to delay them.",
)


def write_onnx(skill: Skill, folder: Path, *, int8: bool = False) -> None:
    """``model.onnx`` with dynamic batch and length, ``config.json`` and the tokenizer, checked.

    Raises:
        SkipError: a package is missing, or the answers differ from PyTorch's.
    """
    check_packages("onnx", "onnxruntime", "onnxscript")
    path = folder / ONNX
    try:
        to_onnx(skill, path)
    except torch.onnx.OnnxExporterError as error:
        raise SkipError(f"--format onnx: the exporter failed: {first_line(error)}") from error
    logits, _ = compare_onnx(skill, path, CHECKED)
    _refuse_above(TOLERANCE, logits, "--format onnx: logits differ from PyTorch's")
    if int8:
        quantise(path)
        _, probabilities = compare_onnx(skill, path, CHECKED)
        _refuse_above(ROUNDING, probabilities, "--int8: probabilities differ from PyTorch's")
        alone = by_neighbours(skill, path, CHECKED)
        _refuse_above(NEIGHBOURS, alone, "--int8: probabilities differ with the texts beside them")
    kept = getattr(skill.model.backbone.config, "vocabulary", None)
    more = {"format": "onnx", "int8": int8, "sha256": sha256(path), "vocabulary": kept}
    record = OnnxRecord.model_validate(skill.about.stored() | more)
    described = {"version": VERSION} | record.stored()
    (folder / CONFIG).write_text(json.dumps(described, indent=1) + "\n")
    skill.tokenizer.save_pretrained(folder)
    check_tokens(skill, folder)


def _refuse_above(limit: float, difference: float, what: str) -> None:
    if not difference <= limit:  # NaN is refused, too
        raise SkipError(f"{what} by {difference:.1e}, allowed: {limit}; nothing was written")


class _Served(nn.Module):
    """A model whose prompt was installed beforehand, so that a prefix is a constant."""

    def __init__(self, model: SoftPromptModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        return self.model.logits(input_ids, attention_mask, token_type_ids)


def to_onnx(skill: Skill, path: Path) -> None:
    inputs = _batch(skill, CHECKED[1:3])
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
    """Weights to 8 bits, activations as they come; see :mod:`skip_exp.skill.export.onnx.int8`."""
    import onnx  # an extra, and slow: only for 8-bit weights

    # the same
    from onnxruntime.quantization import quant_pre_process

    simpler = path.with_name("simpler.onnx")
    with _quiet():
        quant_pre_process(path, simpler, skip_symbolic_shape=True)  # merges what it can
    model = onnx.load(simpler)
    round_weights(model)
    onnx.save(model, path)
    simpler.unlink()


def by_neighbours(skill: Skill, path: Path, texts: Sequence[str]) -> float:
    """Largest difference of a text's probabilities, answered alone and among all ``texts``."""
    run = runner(path, torch.get_num_threads())

    def answer(*batch: str) -> Tensor:
        inputs = {name: tensor.numpy() for name, tensor in _batch(skill, batch).items()}
        return torch.from_numpy(run(inputs)).softmax(-1)

    alone = torch.cat([answer(text) for text in texts])
    return float((alone - answer(*texts)).abs().max())


def compare_onnx(skill: Skill, path: Path, texts: Sequence[str]) -> tuple[float, float]:
    """Largest difference of the logits, and of the probabilities: onnxruntime against PyTorch.

    For batches of 1 to all.
    """
    run = runner(path, torch.get_num_threads())
    differences: list[tuple[Tensor, Tensor]] = []
    for batch in (*((text,) for text in texts), tuple(texts)):
        inputs = _batch(skill, batch)
        with torch.inference_mode():
            expected = skill.model(**inputs)
        found = run({name: tensor.numpy() for name, tensor in inputs.items()})
        both = torch.from_numpy(found), expected
        of_logits, of_probabilities = (a - b for a, b in (both, [x.softmax(-1) for x in both]))
        differences.append((of_logits.abs().max(), of_probabilities.abs().max()))
    logits, probabilities = (
        torch.stack(maxima).max().item() for maxima in zip(*differences, strict=True)
    )
    return logits, probabilities  # NaN if any is


def check_tokens(skill: Skill, folder: Path) -> None:
    """Refuse a tokenizer whose file alone gives other tokens. Raises SkipError."""
    texts = _examples(skill, CHECKED)
    tokenizer, pad_id = read_tokenizer(folder, skill.about)
    expected = encode_texts(skill.tokenizer, texts, skill.about.max_length)
    both = zip(encode(tokenizer, texts), expected, strict=True)
    same = all(ours[name] == row[name] for ours, row in both for name in ours.keys() & row.keys())
    if not same or pad_id != skill.tokenizer.pad_token_id:
        raise SkipError("--format onnx: the tokenizer's file alone gives other tokens")


def _examples(skill: Skill, texts: Sequence[str]) -> list[list[str]]:
    """The texts, or as many pairs of them."""
    pairs = len(skill.about.text) == 2
    return [[text, *([texts[i - 1]] if pairs else [])] for i, text in enumerate(texts)]


def _batch(skill: Skill, texts: Sequence[str]) -> dict[str, Tensor]:
    """The texts, or as many pairs of them, as a padded batch."""
    rows = encode_texts(skill.tokenizer, _examples(skill, texts), skill.about.max_length)
    batch = collate(rows, skill.tokenizer.pad_token_id)
    return {name: batch[name] for name in INPUTS if name in batch}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes on packages that are not used."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
