"""``python -m skip_exp.export SKILL OUT --format safetensors|onnx``: a model without its backbone.

safetensors: ``model.safetensors`` (every weight of the small model, its prompt and readout, keep),
``config.json`` (the skill's description, the size of every layer, the backbone's settings) and the
tokenizer; ``Skill.load(OUT)`` and ``skip_exp.predict`` take it like a skill.
onnx: ``model.onnx`` (input_ids, attention_mask and, for BERT, token_type_ids [batch, length] ->
logits [batch, labels]), the same ``config.json`` and the tokenizer; checked in onnxruntime before
it appears. With ``--int8`` the weights of its linears are 8-bit integers (dynamic quantisation).
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from skip_exp.errors import SkipError
from skip_exp.models.backbones import first_line, skeleton
from skip_exp.models.sites import shapes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct import gain_biases
from skip_exp.skill.files import (
    CONFIG,
    ONNX,
    VERSION,
    parse_about,
    read_described,
    split,
    write_described,
)
from skip_exp.skill.onnx import write_onnx
from skip_exp.skill.skill import Skill, check_parts, cut_model

FORMATS = ("safetensors", "onnx")
WEIGHTS = "model.safetensors"


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
            about = write_onnx(skill, temporary, int8=int8)
            described = {"version": VERSION} | describe(skill, "onnx") | about
            (temporary / CONFIG).write_text(json.dumps(described, indent=1) + "\n")
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
        SkipError: a file is missing, damaged, altered or of an unknown version; it is ONNX; a part
            of somebody's own whose module was not imported before.
    """
    if (folder / ONNX).is_file():
        raise SkipError(f"{folder}: an ONNX export; skip_exp.OnnxSkill.load reads it")
    described, tensors = read_described(folder, WEIGHTS, CONFIG)
    about = parse_about(folder / CONFIG, described)
    check_parts(folder, about)
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
    return Skill(about, tokenizer, model.eval(), keep)


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


if __name__ == "__main__":
    sys.exit(main())
