"""The small model as files of its own: every weight that is left; no backbone is looked for.

``model.safetensors`` (weights, prompt, readout, keep), ``config.json`` (the skill's description,
the size of every layer, the backbone's settings) and the tokenizer.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from skip_exp.data.batches import collate
from skip_exp.errors import SkipError
from skip_exp.models.backbones import skeleton
from skip_exp.models.families.base import HFModel
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct.changes import gain_biases
from skip_exp.skill.about import CONFIG, ONNX, SkillAbout, loading, parse_about
from skip_exp.skill.classifier import encode_texts
from skip_exp.skill.files import check_tensors, read_described, split, write_described
from skip_exp.skill.rebuild import check_parts, cut_model

WEIGHTS = "model.safetensors"
BESIDE = ("format", "layers", "settings")  # fields of `config.json` beside the skill's own
LAYERS = ("num_hidden_layers", "num_layers", "num_decoder_layers")  # in the families' settings
LARGEST_CUT = 1000  # times the parameters that are left: embeddings are never cut


def describe(about: SkillAbout, model: SoftPromptModel, format: str) -> dict[str, Any]:
    """The fields of ``config.json``: the skill's own, and what rebuilds the model."""
    layers = {
        shape.name: {"heads": shape.units, "qk": shape.qk, "vo": shape.vo}
        if shape.whole == "heads"
        else {"units": shape.units}
        for shape in model.shapes()
    }
    settings = json.loads(model.backbone.config.to_json_string(use_diff=False))
    return {"format": format} | about.stored() | {"layers": layers, "settings": settings}


def write_standalone(folder: Path, about: SkillAbout, model: SoftPromptModel, keep: Keep) -> None:
    """Weights (tied ones once), keep and description."""
    first = _tied(model)
    state = {n: t for n, t in model.state_dict().items() if first[n] == n}
    described = describe(about, model, "safetensors")
    write_described(folder, WEIGHTS, state, keep, CONFIG, described)


def read_standalone(
    folder: Path,
) -> tuple[SkillAbout, PreTrainedTokenizerBase, SoftPromptModel, Keep]:
    """What :func:`write_standalone` wrote; no backbone is looked for.

    Raises:
        SkipError: a file is missing, damaged, altered or of an unknown version; it is ONNX; a part
            of somebody's own whose module was not imported before.
    """
    if (folder / ONNX).is_file():
        raise SkipError(f"{folder}: an ONNX export; skip_exp.OnnxSkill.load reads it")
    described, tensors = read_described(folder, WEIGHTS, CONFIG)
    about = parse_about(folder / CONFIG, described, *BESIDE)
    check_tensors(folder / WEIGHTS, about, tensors)
    check_parts(folder, about)
    keep, _, state = split(tensors)
    with loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        whole = _whole(about, described["settings"], state)
        rows = encode_texts(tokenizer, [about.text], about.max_length)
        _check_tokenizer(tokenizer, whole.get_input_embeddings().weight.shape[0])
        model = cut_model(folder, about, whole, tokenizer, keep, {})
        gain_biases(model, state.keys())
        first = _tied(model)
        for name, tensor in model.state_dict().items():
            if state[first[name]].dtype != tensor.dtype:
                raise ValueError(f"{name} is of {state[first[name]].dtype}, not {tensor.dtype}")
        model.load_state_dict({name: state[first[name]] for name in first}, assign=True)
        _tie(model, first)
        _materialise_buffers(model)
        with torch.inference_mode():  # odd settings may show no sooner than at an answer
            model.eval()(**collate(rows, tokenizer.pad_token_id))
    return about, tokenizer, model, keep


def _whole(about: SkillAbout, settings: dict[str, Any], state: Mapping[str, Tensor]) -> HFModel:
    """The uncut backbone without its weights; none larger than the stored ones can be cut from."""
    layers = max(int(settings.get(name) or 0) for name in LAYERS)
    if layers > len(state):
        raise ValueError(f"settings of {layers} layers, but {len(state)} tensors")
    whole = skeleton(settings, about.backbone["family"], about.backbone["readout"])
    needed = sum(parameter.numel() for parameter in whole.parameters())
    stored = sum(tensor.numel() for tensor in state.values())
    if needed > LARGEST_CUT * stored:
        raise ValueError(f"settings of {needed} parameters, but {stored} stored")
    return whole


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, embeddings: int) -> None:
    if tokenizer.pad_token_id is None:
        raise ValueError("the tokenizer has no padding token")
    last = max(tokenizer.get_vocab().values(), default=0)
    if last >= embeddings:
        raise ValueError(f"the tokenizer has token {last}, the model {embeddings} embeddings")


def _tied(model: SoftPromptModel) -> dict[str, str]:
    """Every name of the state dict -> the first name of the same parameter."""
    first_names: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    return {name: first_names.setdefault(id(tensor), name) for name, tensor in state.items()}


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
