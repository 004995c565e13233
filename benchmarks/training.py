"""Training throughput: prompt tuning, ours against PEFT in a plain PyTorch loop."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import LambdaCallback
from transformers import BertConfig

from benchmarks import baseline, models
from benchmarks.tables import Options, Reach, Row
from benchmarks.timing import Times, clock, compare, reported
from skip_exp.backbones.embedded import find_embedded_folder
from skip_exp.config.groups import TrainConfig
from skip_exp.config.schema import TrainerConfig
from skip_exp.data.module import TextDataModule
from skip_exp.data.rows import Rows
from skip_exp.models.family import HFModel
from skip_exp.models.trained import train_only
from skip_exp.training.module import PromptTuner
from skip_exp.training.trainer import fit_trainer, usable
from skip_exp.utils.timing import best_device

TITLE = "Training throughput"
ABOUT = (
    "Prompt tuning on the same train rows, batch 32, a prompt of 16, set-up and validation left "
    "out; train rows a second. PEFT: prompt tuning in a plain loop, dynamic padding, in fp32 and "
    "shuffled; then by autocast in bf16 (where the machine computes it faster) and in batches "
    "of similar length. Ours: the `tune` phase at its defaults, in bf16 likewise, with a prompt at "
    "the input; then with a prefix, the default. Theirs: the step before; ratio: what a step adds. "
    "Then each of ours against both of PEFT's."
)
SIZES = {"minilm": (8, 3), "bert-base": (2, 3)}  # batches per turn, turns
SELECT = 8  # rows that the trainer validates on, after the time was taken
STEPS = ("PEFT, fp32, shuffled", "PEFT, {}, by length", "input prompt", "prefix prompt")


def measure(options: Options) -> list[Row]:
    """Rows of both shapes and both kinds of prompt."""
    task, precision = models.load_task(), usable(TrainerConfig()).precision
    rows = []
    for shape, (batches, turns) in ({"minilm": (2, 2)} if options.quick else SIZES).items():
        part = first_rows(task, batches * baseline.BATCH)
        real = shape == "minilm"  # the other one has random weights
        backbone = models.minilm().model if real else models.backbone(models.config(shape))
        source = find_embedded_folder("minilm") if real else models.config(shape)
        calls = [theirs(source, part), theirs(source, part, at_best=True)]
        calls += [ours(backbone, kind, part, precision) for kind in ("input", "prefix")]
        setting = f"{shape}{'' if real else ' shape'}, {models.task_name(task)}"
        times = reported(calls, repeats=turns)
        rows += climbed(setting, times, len(part.train), precision.removesuffix("-mixed"))
    return rows


def climbed(setting: str, times: Times, size: int, precision: str) -> list[Row]:
    """Every step against the one before, then ours against both of PEFT's."""
    names = [name.format(precision) for name in STEPS]
    against = partial(compare, setting=setting, times=times, unit="rows/s", of=size)
    rows = [against(name, ours=i, theirs=i - 1 if i else None) for i, name in enumerate(names)]
    for step in (2, 3):
        for other, reach in ((0, Reach(low=2.5)), (1, None)):
            name = f"{names[step]}, against {names[other]}"
            rows.append(against(name, ours=step, theirs=other, reach=reach))
    return rows


def first_rows(task: Rows, rows: int) -> Rows:
    """What every side trains on in each turn."""
    return replace(task, train=task.train[:rows], select=task.select[:SELECT])


def ours(backbone: HFModel, kind: str, task: Rows, precision: str) -> Callable[[], float]:
    """Seconds that one epoch of our ``tune`` phase takes.

    From the start of the epoch, so that its batches are made in it, to its last step.
    """
    model = models.prompted(backbone, kind)
    settings = TrainConfig(epochs=1)
    train_only(model, settings.train)
    hardware = TrainerConfig(precision=precision, progress=False)

    def turn() -> float:
        moments: list[float] = []

        def note(*_: Any) -> None:
            if best_device() == "cuda":
                torch.cuda.synchronize()
            moments.append(time.perf_counter())

        watch = LambdaCallback(
            on_train_epoch_start=note,
            on_train_batch_end=lambda trainer, *_: note() if trainer.is_last_batch else None,
        )
        tuner = PromptTuner(model, "tune", settings, task.spec)
        trainer = fit_trainer(tuner, hardware, task.spec.metrics[0], [], [watch])
        trainer.fit(tuner, TextDataModule(task, settings.batch, seed=1))
        start, end = moments
        return end - start

    return turn


def theirs(source: Path | BertConfig, task: Rows, at_best: bool = False) -> Callable[[], float]:
    """Seconds that one epoch of PEFT in a plain loop takes.

    Shuffled and in fp32, or ``at_best``: in batches of similar length, and bf16 where it is native.
    """
    model = baseline.prompt_tuned(source).to(best_device())
    pad = task.tokenizer.pad_token_id
    order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(0))
    rows = [task.train[i] for i in order]

    def turn() -> float:
        bf16 = at_best and baseline.native_bf16()
        loop = baseline.Loop(model, -(-len(rows) // baseline.BATCH), bf16=bf16)
        return clock(
            lambda: loop.run((baseline.grouped if at_best else baseline.batches)(rows, pad))
        )

    return turn
