"""Training throughput: prompt tuning, ours against PEFT in a plain PyTorch loop."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from skip_exp.bench import baseline, data, models
from skip_exp.bench.row import Options, Reach, Row
from skip_exp.bench.timing import Times, clock, reported, synchronise
from skip_exp.config.schema import TrainConfig, TrainerConfig
from skip_exp.data.encode import EncodedTask
from skip_exp.data.encode import Row as Example
from skip_exp.data.metrics import build_metrics
from skip_exp.data.module import TextDataModule
from skip_exp.machine.timing import best_device
from skip_exp.models.backbones import embedded_folder
from skip_exp.models.families import HFModel
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training.module import PromptTuner
from skip_exp.training.trainer import fit_trainer, resolve_precision

TITLE = "Training throughput"
ABOUT = (
    "Prompt tuning on the same train rows, batch 32, a prompt of 16, set-up and validation left "
    "out. Ours: the `tune` phase at its defaults (prefix prompt), and once more with a prompt at "
    "the input; precision `auto`, given beside it. Theirs: PEFT prompt tuning in a plain loop, "
    "fp32, shuffled rows, dynamic padding. Tokens of the texts per second, padding and prompt not "
    "counted. Ratio: how many times as many."
)
SIZES = {"minilm": (8, 3), "bert-base": (2, 3)}  # batches per turn, turns
SELECT = 8  # rows that the trainer validates on, after the time was taken


def measure(options: Options) -> list[Row]:
    """Rows of both shapes and both kinds of prompt."""
    task = data.encoded(data.raw("sst2"))
    shapes = {"minilm": (2, 2)} if options.quick else SIZES
    return [
        row
        for shape, (batches, turns) in shapes.items()
        for row in _rows(shape, task, batches, turns)
    ]


def _rows(shape: str, task: EncodedTask, batches: int, turns: int) -> list[Row]:
    chunks = Chunks(task, batches * baseline.BATCH)
    backbone = data.minilm().model if shape == "minilm" else None
    backbone = backbone or models.backbone(models.config(shape))
    source = embedded_folder("minilm") if shape == "minilm" else models.config(shape)
    precision = resolve_precision("auto", "auto")
    calls = [
        ours(backbone, "prefix", chunks, precision),
        ours(backbone, "input", chunks, precision),
        theirs(source, chunks),
    ]
    times = reported(calls, repeats=turns)
    setting = f"{shape}{'' if shape == 'minilm' else ' shape'}, "
    setting += f"{data.named('sst2', task.is_sample)}, {precision}"
    return [
        _row(f"{kind} prompt", setting, times, call, chunks.tokens)
        for call, kind in enumerate(("prefix", "input"))
    ]


def _row(name: str, setting: str, times: Times, call: int, tokens: int) -> Row:
    ratio, spread = times.ratio(2, call)
    mine, other = tokens / times.median(call), tokens / times.median(2)
    reach = Reach(low=2.5)
    return Row(name, setting, mine, other, "tokens/s", ratio, spread, reach, times.contended)


class Chunks:
    """The rows that every side trains on in each turn."""

    def __init__(self, task: EncodedTask, rows: int) -> None:
        self.task = replace(task, train=task.train[:rows], select=task.select[:SELECT])

    @property
    def rows(self) -> list[Example]:
        return self.task.train

    @property
    def tokens(self) -> int:
        """Of all rows, special tokens included."""
        return sum(len(row["input_ids"]) for row in self.rows)


class Stopwatch(Callback):
    """From the start of the epoch, so that its batches are made in it, to its last step."""

    def __init__(self) -> None:
        self.start = self.end = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.start = self._now()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.is_last_batch:
            self.end = self._now()

    @staticmethod
    def _now() -> float:
        if wait := synchronise():
            wait()
        return time.perf_counter()


def ours(backbone: HFModel, kind: str, chunks: Chunks, precision: str) -> Callable[[], float]:
    """Seconds that one epoch of our ``tune`` phase takes."""
    model: SoftPromptModel = models.prompted(backbone, kind)
    settings = TrainConfig(epochs=1)
    model.train_only(settings.train)
    metrics = build_metrics(chunks.task.spec)
    hardware = TrainerConfig(precision=precision, progress=False)

    def turn() -> float:
        watch = Stopwatch()
        tuner = PromptTuner(model, "tune", settings, metrics)
        trainer = fit_trainer(tuner, hardware, chunks.task.spec.metrics[0], None, [watch])
        trainer.fit(tuner, TextDataModule(chunks.task, settings.batch, seed=1))
        return watch.end - watch.start

    return turn


def theirs(source: Path | Any, chunks: Chunks) -> Callable[[], float]:
    """Seconds that one epoch of PEFT in a plain loop takes."""
    model = baseline.prompt_tuned(source).to(best_device())
    pad = chunks.task.tokenizer.pad_token_id
    steps = -(-len(chunks.rows) // baseline.BATCH)

    def turn() -> float:
        loop = baseline.Loop(model, steps)
        rows = shuffle(chunks.rows)
        return clock(lambda: loop.run(baseline.batches(rows, pad)))

    return turn


def shuffle(rows: Sequence[Example]) -> list[Example]:
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return [rows[i] for i in order]
