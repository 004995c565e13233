"""``python -m skip_exp.export SKILL OUT --format safetensors|onnx``: a model without its backbone.

safetensors: ``model.safetensors`` (every weight of the small model, its prompt and readout, keep),
``config.json`` (the skill's description, the size of every layer, the backbone's settings) and the
tokenizer; ``Skill.load(OUT)`` and ``skip_exp.predict`` take it like a skill.
onnx: ``model.onnx`` (input_ids, attention_mask and, for BERT, token_type_ids [batch, length] ->
logits [batch, labels]), the same ``config.json`` and the tokenizer; checked in onnxruntime before
it appears. With ``--int8`` the weights of its linears are 8-bit integers (dynamic quantisation).
"""

import argparse
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from skip_exp.errors import SkipError
from skip_exp.models.backbones import first_line, skeleton
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct import gain_biases
from skip_exp.pruning.select import shapes
from skip_exp.skill import Skill, collate, cut_model, encode_texts
from skip_exp.skill_file import VERSION, parse_about, read_described, split, write_described

FORMATS = ("safetensors", "onnx")
WEIGHTS, CONFIG, ONNX = "model.safetensors", "config.json", "model.onnx"
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 with one line of why."""
    parser = argparse.ArgumentParser(
        prog="python -m skip_exp.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("skill", metavar="SKILL", help="folder of a skill")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; new or empty")
    parser.add_argument("--format", choices=FORMATS, default="safetensors")
    parser.add_argument("--int8", action="store_true", help="onnx only: 8-bit weights, faster")
    parser.add_argument("--backbone", help="folder or hub id of the backbone, where it has moved")
    options = parser.parse_args(arguments)
    try:
        if options.int8 and options.format != "onnx":
            raise SkipError(f"--int8: not for --format {options.format}, only for onnx")
        skill = Skill.load(options.skill, options.backbone)
        size = export(skill, options.out, options.format, int8=options.int8)
        print(f"written: {options.out} ({size / 1e6:.1f} MB)")
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def export(skill: Skill, out: Path, format: str, *, int8: bool = False) -> int:
    """Write ``skill`` as a stand-alone folder that appears whole or not at all; its bytes.

    Raises:
        SkipError: ``out`` is not empty or cannot be written; for onnx, a package is missing or the
            check failed.
    """
    _check_out(out)
    if any(p.dtype != torch.float32 for p in skill.model.parameters()):
        raise SkipError(f"{out}: weights are exported in fp32; load the skill with 32-true")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        if format == "onnx":
            write_onnx(skill, temporary, int8=int8)
        else:
            write_safetensors(skill, temporary)
        skill.tokenizer.save_pretrained(temporary)
        os.replace(temporary, out)
    except OSError as error:
        raise SkipError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sum(file.stat().st_size for file in out.iterdir())


def _check_out(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SkipError(f"{out}: exists and is not an empty folder")


def describe(skill: Skill, format: str) -> dict[str, Any]:
    """The fields of ``config.json``: the skill's own, and what rebuilds the model."""
    layers = {
        shape.name: {"heads": shape.units, "qk": shape.qk, "vo": shape.vo}
        if shape.qk_cost
        else {"units": shape.units}
        for shape in shapes(skill.model.blocks())
    }
    settings = json.loads(skill.model.backbone.config.to_json_string(use_diff=False))
    return {"format": format} | asdict(skill.about) | {"layers": layers, "settings": settings}


# --- safetensors --------------------------------------------------------------------------------


def write_safetensors(skill: Skill, folder: Path) -> None:
    """Weights (tied ones once), keep and description."""
    first = _tied(skill.model)
    state = {n: t for n, t in skill.model.state_dict().items() if first[n] == n}
    about = describe(skill, "safetensors")
    write_described(folder, WEIGHTS, state, skill.keep, CONFIG, about)


def load_exported(folder: Path) -> Skill:
    """What :func:`write_safetensors` wrote; no backbone is looked for.

    Raises:
        SkipError: a file is missing, damaged, altered or of an unknown version, or it is ONNX.
    """
    if (folder / ONNX).is_file():
        raise SkipError(f"{folder}: an ONNX export; open {ONNX} with onnxruntime")
    described, tensors = read_described(folder, WEIGHTS, CONFIG)
    about = parse_about(folder / CONFIG, described)
    keep, _, state = split(tensors)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        whole = skeleton(described["settings"], about.backbone["family"], about.backbone["readout"])
        model = cut_model(folder, about, whole, tokenizer, keep, {})
        gain_biases(model, state.keys())
        first = _tied(model)
        model.load_state_dict({name: state[first[name]] for name in first}, assign=True)
        _tie(model, first)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise SkipError(f"{folder}: cannot be loaded: {first_line(error)}") from error
    _materialise_buffers(model)
    return Skill(about, model.eval(), tokenizer, keep)


def _tied(model: SoftPromptModel) -> dict[str, str]:
    """Every name of the state dict -> the first name of the same parameter."""
    seen: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    return {name: seen.setdefault(id(tensor), name) for name, tensor in state.items()}


def _tie(model: SoftPromptModel, first: dict[str, str]) -> None:
    """Make one parameter again of those that ``first`` calls the same."""
    for name, same in first.items():
        if name != same:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, model.get_parameter(same))


def _materialise_buffers(model: SoftPromptModel) -> None:
    """BERT's default positions and token types are in no file; never read, as ours are passed."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                setattr(module, name, torch.zeros_like(buffer, device="cpu"))


# --- ONNX ---------------------------------------------------------------------------------------


def write_onnx(skill: Skill, folder: Path, *, int8: bool = False) -> None:
    """``model.onnx`` with dynamic batch and length, checked against PyTorch."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            advice = "pip install 'skip_exp[export]'"
            raise SkipError(f"--format onnx: {package} is not installed: {advice}")
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
    about = (
        describe(skill, "onnx")
        | {"int8": int8}
        | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    )
    (folder / CONFIG).write_text(json.dumps({"version": VERSION} | about, indent=1) + "\n")


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
    import onnx
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
    import onnxruntime  # an extra: only this format needs it

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    differences: list[tuple[Tensor, Tensor]] = []
    for some in (*((text,) for text in texts), tuple(texts)):
        inputs = _batch(skill, some)
        with torch.inference_mode():
            expected = skill.model(**inputs)
        (found,) = session.run(None, {name: inputs[name].numpy() for name in names})
        both = torch.from_numpy(found), expected
        of_logits, of_probabilities = (a - b for a, b in (both, [x.softmax(-1) for x in both]))
        differences.append((of_logits.abs().max(), of_probabilities.abs().max()))
    logits, probabilities = (
        torch.stack(each).max().item() for each in zip(*differences, strict=True)
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


if __name__ == "__main__":
    sys.exit(main())
