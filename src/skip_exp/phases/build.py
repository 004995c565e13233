"""Builds the model that tune trains: a backbone with a prompt and a readout."""

import copy
import hashlib

import lightning as L

from skip_exp.config.schema import PromptConfig
from skip_exp.config.train import OWN_WEIGHTS, TuneConfig
from skip_exp.data.rows import Rows
from skip_exp.models import lora
from skip_exp.models.backbones import Backbone
from skip_exp.models.prompts import PROMPT_CLASSES, start_ids
from skip_exp.models.readouts import READOUT_CLASSES
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.start import Start


def phase_seed(seed: int, phase: str) -> int:
    """A seed for each phase of a job: separate, so that a cached phase changes nothing later."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{phase}".encode()).digest()[:4], "big")


def build_model(
    data: Rows,
    backbone: Backbone,
    pooling: str,
    prompt: PromptConfig,
    settings: TuneConfig,
    start: Start | None,
    seed: int,
    *,
    shares_backbone: bool = True,
) -> SoftPromptModel:
    """The model before tuning, on the CPU; what ``settings.train`` trains requires gradients.

    The readout is always new. Prompt and trained weights are those of ``start``, if any.

    Args:
        pooling: what a head reads.
        seed: of the job.
        shares_backbone: False for a copy of the weights: those of later jobs stay on the CPU.
    """
    task, seed = data.spec, phase_seed(seed, "init")
    L.seed_everything(seed, verbose=False)
    ids = start_ids(
        prompt.init,
        backbone.tokenizer,
        prompt.length,
        seed,
        text=" ".join(task.labels),
        counts=data.token_counts,
    )
    soft = PROMPT_CLASSES[prompt.kind].build(
        backbone.model, backbone.family, prompt.length, ids, prompt.decoder
    )
    if prompt.init == "silent":
        soft.silence()
    readout = READOUT_CLASSES[backbone.readout].build(
        backbone.model, backbone.tokenizer, task.num_labels, tuple(task.words), pooling
    )
    readout.draw_weights()
    weights = backbone.model if shares_backbone else copy.deepcopy(backbone.model)
    model = SoftPromptModel(weights, backbone.family, soft, readout)
    if settings.train in OWN_WEIGHTS:  # others share this backbone
        model = model.copy()
    if start is not None:
        model.train_only(start.train, start.rank, seed)  # has whatever the start brings
        start.load_into(model)
        if settings.train != "lora":
            lora.fold(model.backbone)  # the weights themselves are trained from here on
    model.train_only(settings.train, settings.rank, seed)
    return model
