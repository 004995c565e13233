"""What a user would take instead: PEFT's prompt tuning on BERT, trained in a plain PyTorch loop.

PEFT trains the classifier, too. Its prompt starts from words drawn from the vocabulary, as ours.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, get_scheduler

from benchmarks.models import LENGTH, extra
from skip_exp.config.groups import TrainConfig
from skip_exp.config.schema import TrainerConfig
from skip_exp.data.batches import Batch, Row, collate
from skip_exp.data.module import LengthGroupedSampler
from skip_exp.training.trainer import CLIP, usable

BATCH = 32


def prompt_tuned(source: Path | BertConfig) -> nn.Module:
    """A frozen BERT with PEFT's soft prompt and a classifier of two labels to train, in fp32.

    Args:
        source: a backbone's folder, or settings for random weights.

    Raises:
        SkipError: PEFT is not installed.
    """
    peft = extra("peft")
    logging.getLogger("transformers").setLevel(logging.ERROR)  # the classifier is new: no news
    torch.manual_seed(0)
    if isinstance(source, BertConfig):
        model = BertForSequenceClassification(source)
    else:
        model = BertForSequenceClassification.from_pretrained(source, dtype=torch.float32)
    settings = peft.PromptTuningConfig(
        task_type=peft.TaskType.SEQ_CLS,
        num_virtual_tokens=LENGTH,
        prompt_tuning_init="SAMPLE_VOCAB",
    )
    tuned: nn.Module = peft.get_peft_model(model, settings)
    return tuned.eval()


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """What training changes."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


class Loop:
    """The usual loop: AdamW, a linear schedule with warm-up, clipping.

    The learning rates and the rest are the defaults of our ``tune`` phase, so that what is compared
    is the method.
    """

    def __init__(self, model: nn.Module, steps: int, *, bf16: bool = False) -> None:
        settings = TrainConfig()
        parameters = trained(model)
        prompt = [p for name, p in parameters.items() if "prompt" in name]
        classifier = [p for name, p in parameters.items() if "prompt" not in name]
        self.model, self.bf16 = model, bf16
        self.optimizer = torch.optim.AdamW(
            [
                {"params": prompt, "lr": settings.lr},
                {"params": classifier, "lr": settings.readout_lr},
            ],
            weight_decay=settings.weight_decay,
        )
        self.schedule = get_scheduler("linear", self.optimizer, int(settings.warmup * steps), steps)

    def run(self, batches: Iterable[Batch]) -> None:
        """One step per batch; the frozen layers have no dropout, as in ours."""
        device = next(self.model.parameters()).device
        self.model.eval()
        for batch in batches:
            inputs = {name: x.to(device) for name, x in batch.items()}
            with torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext():
                loss = self.model(**inputs).loss
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained(self.model).values(), CLIP)
            self.optimizer.step()
            self.schedule.step()


def batches(rows: Sequence[Row], pad_id: int) -> Iterator[Batch]:
    """Batches of rows in their order, each padded to its longest row."""
    for start in range(0, len(rows), BATCH):
        yield collate(rows[start : start + BATCH], pad_id)


def grouped(rows: Sequence[Row], pad_id: int) -> Iterator[Batch]:
    """Batches of rows of similar length, in random order, as in our training."""
    sampler = LengthGroupedSampler([len(row["input_ids"]) for row in rows], BATCH, seed=1)
    return batches([rows[i] for i in sampler], pad_id)


def native_bf16() -> bool:
    """Whether our training takes bf16 here."""
    return usable(TrainerConfig()).precision == "bf16-mixed"
