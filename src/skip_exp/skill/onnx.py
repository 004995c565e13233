"""The same model for onnxruntime: written, checked against PyTorch, read and served."""

import hashlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from skip_exp.data.batches import collate
from skip_exp.errors import SkipError
from skip_exp.models.backbones import first_line
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.classifier import Classifier, encode_texts
from skip_exp.skill.files import CONFIG, ONNX, parse_about, read_json
from skip_exp.skill.skill import Skill

INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # the last where the tokenizer has it
TOLERANCE = 1e-4  # between the logits of PyTorch and onnxruntime
ROUNDING = 0.1  # the same between probabilities, where the weights were rounded to 8 bits
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


@dataclass(frozen=True)
class OnnxSkill(Classifier):
    """An ONNX export at work, by onnxruntime; it needs no backbone."""

    run: Callable[..., Tensor]

    @classmethod
    def load(cls, folder: str | Path) -> "OnnxSkill":
        """Read what ``skip_exp.export --format onnx`` wrote; onnxruntime uses torch's threads.

        Raises:
            SkipError: a file is missing, damaged, altered or of an unknown version, or onnxruntime
                is not installed.
        """
        folder = Path(folder)
        _check_packages("onnxruntime")
        described = read_json(folder / CONFIG)
        path = folder / ONNX
        if not path.is_file() or described.get("sha256") != _sha256(path):
            raise SkipError(f"{folder}: damaged or altered: {ONNX} is not what {CONFIG} describes")
        about = parse_about(folder / CONFIG, described)
        return cls(
            about, AutoTokenizer.from_pretrained(folder, trust_remote_code=False), runner(path)
        )

    def ready(self) -> Callable[..., Tensor]:
        return self.run


def runner(path: Path) -> Callable[..., Tensor]:
    """(input_ids, attention_mask, ...) [B, T] -> logits [B, labels], by onnxruntime."""
    import onnxruntime  # an extra: only this format needs it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [argument.name for argument in session.get_inputs()]

    def run(**inputs: Tensor) -> Tensor:
        (logits,) = session.run(None, {name: inputs[name].numpy() for name in names})
        return torch.from_numpy(logits)

    return run


def write_onnx(skill: Skill, folder: Path, *, int8: bool = False) -> dict[str, Any]:
    """``model.onnx`` with dynamic batch and length, checked against PyTorch; what to note of it.

    Raises:
        SkipError: a package is missing, or the check failed.
    """
    _check_packages("onnx", "onnxruntime", "onnxscript")
    path = folder / ONNX
    try:
        _to_onnx(skill, path)
    except torch.onnx.OnnxExporterError as error:
        raise SkipError(f"--format onnx: the exporter failed: {first_line(error)}") from error
    difference, _ = compare_onnx(skill, path, CHECKED)
    if not difference <= TOLERANCE:
        raise SkipError(
            f"--format onnx: logits differ by {difference:.1e} from PyTorch's, more than "
            f"{TOLERANCE:.0e}; nothing was written"
        )
    if int8:
        _quantise(path)
        _, difference = compare_onnx(skill, path, CHECKED)
        if not difference <= ROUNDING:
            raise SkipError(
                f"--int8: probabilities differ by {difference:.2f} from PyTorch's, more than "
                f"{ROUNDING}; nothing was written"
            )
    return {"int8": int8, "sha256": _sha256(path)}


def _check_packages(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            advice = "pip install 'skip_exp[export]'"
            raise SkipError(f"--format onnx: {package} is not installed: {advice}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Served(nn.Module):
    """A model whose prompt was installed beforehand, so that a prefix is a constant."""

    def __init__(self, model: SoftPromptModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        return self.model.logits(input_ids, attention_mask, token_type_ids)


def _to_onnx(skill: Skill, path: Path) -> None:
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


def _quantise(path: Path) -> None:
    """Weights of the linears to 8 bits, a scale per output unit; activations as they come."""
    import onnx  # an extra, and slow: only for 8-bit weights

    # the same
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic

    simpler = path.with_name("simpler.onnx")
    with _quiet():
        quant_pre_process(path, simpler, skip_symbolic_shape=True)  # merges what it can
        graph = onnx.load(simpler).graph
        empty = {weight.name for weight in graph.initializer if 0 in weight.dims}
        gone = [node.name for node in graph.node if empty & set(node.input)]  # cut away entirely
        how = {"per_channel": True, "weight_type": QuantType.QInt8, "nodes_to_exclude": gone}
        quantize_dynamic(simpler, path, **how)
    simpler.unlink()


def compare_onnx(skill: Skill, path: Path, texts: Sequence[str]) -> tuple[float, float]:
    """Largest difference of the logits, and of the probabilities: onnxruntime against PyTorch.

    For batches of 1 to all.
    """
    run = runner(path)
    differences: list[tuple[Tensor, Tensor]] = []
    for batch in (*((text,) for text in texts), tuple(texts)):
        inputs = _batch(skill, batch)
        with torch.inference_mode():
            expected = skill.model(**inputs)
        both = run(**inputs), expected
        of_logits, of_probabilities = (a - b for a, b in (both, [x.softmax(-1) for x in both]))
        differences.append((of_logits.abs().max(), of_probabilities.abs().max()))
    logits, probabilities = (
        torch.stack(maxima).max().item() for maxima in zip(*differences, strict=True)
    )
    return logits, probabilities  # NaN if any is


def _batch(skill: Skill, texts: Sequence[str]) -> dict[str, Tensor]:
    """The texts, or as many pairs of them, as a padded batch."""
    examples = [
        [text, *([texts[i - 1]] if len(skill.about.text) == 2 else [])]
        for i, text in enumerate(texts)
    ]
    rows = encode_texts(skill.tokenizer, examples, skill.about.max_length)
    batch = collate(rows, skill.tokenizer.pad_token_id)
    return {name: batch[name] for name in INPUTS if name in batch}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on packages that we do not use."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
