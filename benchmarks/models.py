"""What the comparisons work on: models of known shapes, the task's rows, and other libraries."""

import importlib
import os
from typing import Any

import torch
from omegaconf import OmegaConf
from transformers import BertConfig, BertModel

from skip_exp.attribution import random
from skip_exp.backbones.load import Backbone, load_backbone
from skip_exp.config import schema
from skip_exp.config.groups import TaskConfig
from skip_exp.data.module import encode
from skip_exp.data.rows import Rows
from skip_exp.data.sources import load_rows
from skip_exp.errors import SkipError
from skip_exp.models.families import FAMILIES
from skip_exp.models.family import Family, HFModel, Keep
from skip_exp.models.readouts import HeadReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import shapes_of
from skip_exp.phases.build import draw_weights, new_prompt
from skip_exp.pruning.allocate import allocate

RATIO = 0.52  # of the block parameters: the paper's headline
LENGTH = 16  # of every prompt, ours and theirs
MAX_LENGTH = 128  # tokens of a text, ours and theirs
SHAPES = {  # hidden size, layers, heads
    "bert-tiny": (128, 2, 2),
    "minilm": (384, 6, 12),
    "bert-base": (768, 12, 12),
}


def config(shape: str) -> BertConfig:
    """BERT's settings at one of SHAPES."""
    hidden, layers, heads = SHAPES[shape]
    return BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
    )


def backbone(settings: BertConfig) -> HFModel:
    """A frozen BERT with random weights, its attention swapped: as fast as a trained one."""
    torch.manual_seed(0)
    model: HFModel = BertModel(settings, add_pooling_layer=False)
    return FAMILIES["bert"].prepare(model)


def prompted(
    model: HFModel,
    prompt: str = "prefix",
    length: int = LENGTH,
    family: Family = FAMILIES["bert"],
) -> SoftPromptModel:
    """``model`` with a prompt (``prefix`` or ``input``) and a readout of two labels."""
    soft = new_prompt(prompt, model, family, torch.arange(length))
    readout = HeadReadout(model.config.hidden_size, 2)
    draw_weights(readout)
    return SoftPromptModel(model, family, soft, readout).eval()


def prompted_shape(shape: str) -> SoftPromptModel:
    """A dense model of one of SHAPES with random weights and a prefix prompt."""
    return prompted(backbone(config(shape)))


def keep_at(model: SoftPromptModel, ratio: float = RATIO, layers: int | None = None) -> Keep:
    """A keep that removes ``ratio`` of the block parameters, chosen at random."""
    relevance = random.scores(model, [])
    shapes = shapes_of(model)
    return allocate(relevance, shapes, ratio=ratio, sites=["ffn", "heads"], layers=layers)


def minilm() -> Backbone:
    """The embedded backbone."""
    return load_backbone("minilm", "embedded:minilm", "bert", "head")


def load_task() -> Rows:
    """Token ids of SST-2 where SKIP_EXP_DATA names a folder of rows; else of RTE's stand-ins.

    Raises:
        SkipError: the rows could not be loaded.
    """
    folder = os.environ.get("SKIP_EXP_DATA") or None
    task, source = ("sst2", "local") if folder else ("rte", "embedded")
    spec = schema.to_object(OmegaConf.load(schema.conf_dir() / f"task/{task}.yaml"), TaskConfig)
    rows = load_rows(spec, schema.DataConfig(source=source, dir=folder))
    return encode(rows, minilm().tokenizer, MAX_LENGTH)


def task_name(rows: Rows) -> str:
    """The task as a setting names it."""
    return f"{rows.spec.name} (SNLI pairs in its place)" if rows.is_sample else rows.spec.name


def extra(name: str) -> Any:
    """Import a library of the ``dev`` extra, which only some comparisons need.

    Raises:
        SkipError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise SkipError(
            f"{package} is not installed; it comes with the dev extra: pip install 'skip_exp[dev]'"
        ) from error
