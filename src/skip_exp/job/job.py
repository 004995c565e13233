"""The input of a job's phases: data, a backbone, settings, seeds and the cache."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import lightning as L
from torch import Tensor

from skip_exp.cache.store import Entry, StageCache
from skip_exp.config.schema import Config, TrainerConfig
from skip_exp.config.train import OWN, TrainConfig
from skip_exp.data.augment import copies_of
from skip_exp.data.batches import Row
from skip_exp.data.module import TextDataModule
from skip_exp.data.rows import Rows
from skip_exp.job.start import Start
from skip_exp.models.backbones import Backbone, load_backbone
from skip_exp.models.prompts import prompt_class, start_ids
from skip_exp.models.readouts import readout_class
from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training.trainer import root_device


@dataclass(frozen=True)
class Job:
    """Everything that the phases need; built by :func:`skip_exp.job.prepare.prepare`.

    Attributes:
        data: the task's rows as token ids.
        trainer: settings of the trainers, precision resolved.
        method: the attribution method with its options: (model, batches) -> relevance.
        keys: by stage, what its cached entries depend on: never the ratio, the logger or a path.
        job_id: see :mod:`skip_exp.job.identity`.
        start: the skill that tuning starts from, if any.
    """

    cfg: Config
    data: Rows
    backbone: Backbone
    trainer: TrainerConfig
    method: Callable[..., Relevance]
    cache: StageCache
    keys: dict[str, dict[str, Any]]
    job_id: str
    start: Start | None = None

    @property
    def output(self) -> Path:
        """The job's own folder."""
        return Path(self.cfg.output_dir)

    @property
    def metric(self) -> str:
        """Name of the task's main metric."""
        return self.data.spec.metrics[0]

    def seed(self, phase: str) -> int:
        """The seed of a phase: separate, so that a cached phase does not change later ones."""
        return phase_seed(self.cfg.seed, phase)

    def stage(self, name: str, compute: Callable[[], Entry]) -> Entry:
        """The entry of a stage, from the cache or computed."""
        return self.cache.get(name, self.keys[name], compute)

    def batches(
        self,
        settings: TrainConfig,
        phase: str,
        teacher: Tensor | None = None,
    ) -> TextDataModule:
        """Rows in batches of ``settings``, in the order of the phase's seed.

        They are the train rows or, with a ``teacher``'s logits of them, :attr:`taught`.
        """
        rows, versions = (None, 1) if teacher is None else (self.taught, self.versions)
        seed = self.seed(phase)
        return TextDataModule(
            self.data, settings.batch, seed, teacher=teacher, rows=rows, versions=versions
        )

    @property
    def versions(self) -> int:
        """Of each text in :attr:`taught`: itself and ``retune.copies`` more."""
        return self.cfg.retune.versions

    @cached_property
    def taught(self) -> list[Row]:
        """What the dense model labels: train rows, rows without a label, and versions of both."""
        rows, copies = [*self.data.train, *self.data.unlabelled], self.versions - 1
        if not copies:
            return rows
        words = cast(Tensor, self.backbone.model.get_input_embeddings().weight)
        return rows + copies_of(rows, self.data.tokenizer, words, copies, self.seed("copies"))

    def new_model(self) -> SoftPromptModel:
        """The backbone with a prompt and a readout before tuning, on the CPU.

        The readout is always new. Prompt and low-rank updates are those of ``start``, if any.

        With a GPU the backbone is a copy, because later jobs and skills use the loaded one.
        """
        prompt, b, task = self.cfg.prompt, self.backbone, self.data.spec
        seed = self.seed("init")
        L.seed_everything(seed, verbose=False)
        ids = start_ids(
            prompt.init or "",
            b.tokenizer,
            prompt.tokens,
            seed,
            text=" ".join(task.labels),
            counts=self.data.token_counts,
        )
        soft = prompt_class(prompt.kind).build(
            b.model, b.family, prompt.tokens, ids, prompt.decoder
        )
        if prompt.init == "silent":
            soft.silence()
        readout = readout_class(b.readout).build(
            b.model, b.tokenizer, task.num_labels, tuple(task.words), self.cfg.backbone.pooling
        )
        on_cpu = root_device(self.trainer).type == "cpu"
        backbone = b.model if on_cpu else copy.deepcopy(b.model)
        model = SoftPromptModel(backbone, b.family, soft, readout)
        tune = self.cfg.tune
        if tune.train in OWN:  # others share this backbone
            model = model.copy()
        model.train_only(tune.train, tune.rank, seed)
        if self.start:
            self.start.load_into(model)
        return model

    def whole(self, dense: SoftPromptModel) -> SoftPromptModel:
        """The reference for size and speed: ``dense``, or all layers of its backbone, untrained."""
        b = self.cfg.backbone
        if b.layers is None:
            return dense
        backbone = load_backbone(b.name, b.path, b.family, b.readout)
        return replace(self, backbone=backbone, start=None).new_model()


def phase_seed(seed: int, phase: str) -> int:
    """A seed for each phase of a job with this ``seed``."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{phase}".encode()).digest()[:4], "big")
