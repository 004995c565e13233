"""Jobs of skip_exp, served by its own predict; and MiniLM's first layers, distilled."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.frontier.work import Answer, Fitted, Work, best_of, slug
from benchmarks.timing import job as run_job
from skip_exp.config import compose, together
from skip_exp.data.module import TextDataModule
from skip_exp.models.precision import to_bf16, wants_bf16
from skip_exp.models.soft_prompt import SoftPromptModel, load_trainable, trainable_state
from skip_exp.phases.fit import fit, start_readout
from skip_exp.phases.job import Job
from skip_exp.phases.prepare import prepare
from skip_exp.phases.retune import ask_teacher
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.export.onnx.runtime import OnnxSkill
from skip_exp.skill.skill import Skill

SHALLOW_RATES = ("3e-4", "1e-4")  # of all weights
SHALLOW_EPOCHS = 24  # of one layer; two layers get half as many
STATE = "model.safetensors"
MODEL = "model.onnx"  # of an export


@dataclass(frozen=True)
class Jobs:
    """One job per setting; the selection slice takes one of them.

    Attributes:
        overrides: of every job.
        settings: further overrides, one for each job.
    """

    overrides: Sequence[str]
    settings: Sequence[str] = ("",)

    def fit(self, work: Work, folder: Path) -> Fitted:
        found = [self._run(work, folder, setting) for setting in self.settings[: work.settings]]
        return max(found, key=lambda fitted: fitted.select)

    def _run(self, work: Work, folder: Path, setting: str) -> Fitted:
        own = [*self.overrides, *filter(None, [setting])]
        out = folder / slug(setting or "job")
        run_job([*given(work, own), f"hydra.run.dir={out}"])
        result = json.loads((out / "result.json").read_text(encoding="utf-8"))
        return Fitted(100 * result["select"]["final"], setting, result["seconds"]["total"])

    def load(self, work: Work, folder: Path) -> tuple[Answer, float]:
        job = chosen(folder)
        skill = Skill.load(job, precision="auto")
        return partial(labels_of, skill), megabytes(skill.model)


@dataclass(frozen=True)
class Int8:
    """The ONNX export, with 8-bit weights, of another method's skill."""

    of: str

    def fit(self, work: Work, folder: Path) -> Fitted:
        return Fitted.load(work.place(self.of))

    def load(self, work: Work, folder: Path) -> tuple[Answer, float]:
        out = folder / "export"
        if not out.is_dir():
            Skill.load(chosen(work.place(self.of))).export(out, "onnx", int8=True)
        served = OnnxSkill.load(out, torch.get_num_threads())
        return partial(labels_of, served), (out / MODEL).stat().st_size / 1e6


@dataclass(frozen=True)
class Shallow:
    """The first layers, every weight trained, from the answers of another method's model.

    It learns from as many copies of each text as ours.
    """

    layers: int
    teacher: str

    def fit(self, work: Work, folder: Path) -> Fitted:
        fitted, model = best_of(self._trained(work))
        folder.mkdir(parents=True, exist_ok=True)
        save_file(trainable_state(model), folder / STATE)
        return fitted

    def _trained(self, work: Work) -> Iterator[tuple[Fitted, SoftPromptModel]]:
        skill = self._teacher(work)
        for rate in SHALLOW_RATES[: work.settings]:
            start, setting = time.perf_counter(), f"tune.full_lr={rate}"
            job = self._job(work, setting)
            model = job.new_model()
            start_readout(job.trainer, model, job.data, job.backbone.path)
            tuning, seed = job.cfg.tune, job.seed("tune")
            texts = job.taught.value
            logits = ask_teacher(job.trainer, dense=skill.model, data=job.data, texts=texts)
            rows = TextDataModule(
                job.data,
                tuning.batch,
                seed,
                teacher=logits.tensors["logits"],
                rows=texts,
                versions=1 + job.cfg.retune.copies,
            )
            distill, epochs = job.cfg.retune.distill, tuning.epochs
            kept, _ = fit(job.trainer, [], model, rows, tuning, epochs, seed, distill)
            yield Fitted(100 * kept.score, setting, time.perf_counter() - start), model

    def load(self, work: Work, folder: Path) -> tuple[Answer, float]:
        job = self._job(work, Fitted.load(folder).setting)
        model, skill = job.new_model(), self._teacher(work)
        load_trainable(model, load_file(folder / STATE))
        size = megabytes(model)
        if wants_bf16("auto"):
            to_bf16(model)
        served = Skill(skill.about, skill.tokenizer, model.eval(), {})
        return partial(labels_of, served), size

    def _teacher(self, work: Work) -> Skill:
        skill = Skill.load(chosen(work.place(self.teacher)))
        skill.model.temperature = 1.0  # a job's own teacher has none
        return skill

    def _job(self, work: Work, rate: str) -> Job:
        own = ["experiment=finetune", f"backbone.layers={self.layers}", rate]
        own += [
            f"tune.epochs={SHALLOW_EPOCHS // self.layers}",
            "cache.dir=null",
            f"output_dir={work.folder}",
        ]
        return prepare(together.job_config(compose.compose_config("config", given(work, own))))


def chosen(folder: Path) -> Path:
    """The skill of the job that the selection slice chose."""
    job = folder / slug(Fitted.load(folder).setting or "job")
    result = json.loads((job / "result.json").read_text(encoding="utf-8"))
    return job / str(result["skill"])  # of a reused job: elsewhere


def given(work: Work, overrides: Iterable[str]) -> list[str]:
    """The overrides of a job on the task."""
    path = [f"hydra.searchpath=[file://{work.conf}]"] if work.conf else []
    return [
        *(*path, f"+task={work.task}", f"seed={work.seed}"),
        *("benchmark.enabled=false", "trainer.accelerator=cpu", "logger=none"),
        *(f"cache.dir={work.cache}", *overrides),
    ]


def labels_of(classifier: Classifier, texts: Sequence[str]) -> list[int]:
    """The indices of the likeliest labels."""
    index = {label: i for i, label in enumerate(classifier.about.labels)}
    return [index[str(answer["label"])] for answer in classifier.predict(texts)]


def megabytes(model: Any) -> float:
    """Weights in fp32, in MB."""
    return 4 * sum(p.numel() for p in model.parameters()) / 1e6
