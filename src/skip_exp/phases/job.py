"""The input of a job's phases: data, a backbone, settings, seeds and the cache."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skip_exp.backbones.load import Backbone
from skip_exp.cache.store import Keyed, StageCache
from skip_exp.cache.version import digest, job_code, parts_code
from skip_exp.config.schema import Config, TrainerConfig
from skip_exp.config.together import parts
from skip_exp.data.augment import copies_of
from skip_exp.data.batches import Row
from skip_exp.data.rows import Rows
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.build import Start, build_model, phase_seed
from skip_exp.skill.record import VERSION
from skip_exp.training.trainer import root_device

if TYPE_CHECKING:  # it brings pruning, whose edits make no dense model stale
    from skip_exp.callbacks.between import Method

# Groups that do not affect results: only the precision of `trainer` counts, and timings
# are a stage of their own.
BESIDE = ("output_dir", "logger", "sweep", "cache", "trainer", "benchmark")
# Keys that name places, whose content counts.
PLACES = {
    "data": ("source", "dir"),
    "task": ("files", "start"),
    "tune": ("start",),
    "backbone": ("path",),
}


@dataclass(frozen=True)
class Job:
    """Everything that the phases need; built by :func:`skip_exp.phases.prepare.prepare`.

    Attributes:
        data: the task's rows as token ids.
        trainer: settings of the trainers, precision resolved.
        method: the attribution method with its options: (model, batches) -> relevance.
        start: the skill that tuning starts from, if any.
    """

    cfg: Config
    data: Rows
    backbone: Backbone
    trainer: TrainerConfig
    method: Keyed["Method"]
    cache: StageCache
    start: Start | None = None

    @property
    def output(self) -> Path:
        """The job's own folder."""
        return Path(self.cfg.output_dir)

    @property
    def metric(self) -> str:
        """Name of the task's main metric."""
        return self.data.spec.metrics[0]

    @cached_property
    def key(self) -> str:
        """The job's id, which is its key as the last stage: settings, content and code."""
        settings = asdict(self.cfg)
        for group in BESIDE:
            del settings[group]
        for group, names in PLACES.items():
            for name in names:
                del settings[group][name]
        data = self.data
        identity = {
            "settings": settings,
            "data": [data.fingerprint, data.read, data.dropped, data.is_sample],
            "backbone": self.backbone.content_hash,
            "start": self.start.content if self.start else None,
            "precision": self.trainer.precision,
            "code": [job_code(), parts_code(*filter(None, parts(self.cfg).values()))],
            "skill": VERSION,  # a job holds the files of one
        }
        return digest(identity)[:16]

    @property
    def device(self) -> str:
        """The device of the trainers, by its name for torch."""
        return str(root_device(self.trainer))

    def seed(self, phase: str) -> int:
        """The seed of a phase: separate, so that a cached phase does not change later ones."""
        return phase_seed(self.cfg.seed, phase)

    @cached_property
    def dense_arguments(self) -> dict[str, Any]:
        """What the dense model depends on: the arguments of :func:`skip_exp.phases.fit.fit_dense`.

        Content counts, not places or names of backbones.
        """
        cfg = self.cfg
        data = self.data
        spec = data.spec
        backbone = self.backbone
        start = self.start
        reading = [
            cfg.data.max_length,
            spec.text,
            spec.labels,
            spec.words,
            spec.metrics,
            spec.extra,
        ]
        weights = [backbone.content_hash, backbone.family.name, backbone.readout]
        return {
            "data": Keyed(digest([data.fingerprint, reading]), lambda: data),
            "backbone": Keyed(digest(weights), lambda: backbone),
            "pooling": cfg.backbone.pooling,
            "prompt": cfg.prompt,
            "settings": replace(cfg.tune, start=None),
            "start": None if start is None else Keyed(start.content, lambda: start),
            "seed": cfg.seed,
            "precision": self.trainer.precision,
        }

    @cached_property
    def student_rows(self) -> Keyed[list[Row]]:
        """What the dense model labels as teacher: train rows and their versions."""
        data = self.dense_arguments["data"].key
        rows = [data, self.cfg.retune.copies, self.cfg.seed]
        return Keyed(digest(rows), self._make_student_rows)

    def _make_student_rows(self) -> list[Row]:
        rows = self.data.train
        copies = self.cfg.retune.copies
        if not copies:
            return rows
        words: Any = self.backbone.model.get_input_embeddings().weight
        return rows + copies_of(rows, self.data.tokenizer, words, copies, self.seed("copies"))

    def new_model(self) -> SoftPromptModel:
        """The backbone with a prompt and a readout before tuning, on the CPU."""
        cfg = self.cfg
        return build_model(
            self.data,
            self.backbone,
            cfg.backbone.pooling,
            cfg.prompt,
            cfg.tune,
            self.start,
            cfg.seed,
            shares_backbone=root_device(self.trainer).type == "cpu",
        )
