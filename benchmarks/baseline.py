"""What a user would take instead: PEFT's prompt tuning on BERT, trained in a plain PyTorch loop.

PEFT trains the classifier, too. Its prompt starts from words drawn from the vocabulary, as ours.
"""

import copy
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerBase,
    get_scheduler,
)

from benchmarks.models import LENGTH, MAX_LENGTH, encoded, extra, minilm
from skip_exp.cache.version import digest
from skip_exp.config.schema import TrainerConfig
from skip_exp.config.train import TrainConfig
from skip_exp.data.batches import Batch, Row, collate
from skip_exp.data.module import LengthGroupedSampler
from skip_exp.data.rows import Rows
from skip_exp.models.embedded import find_embedded_folder
from skip_exp.training.trainer import CLIP, usable
from skip_exp.utils.timing import best_device

BATCH = 32


def prompt_tuned(source: Path | BertConfig, labels: int = 2) -> nn.Module:
    """A frozen BERT with PEFT's soft prompt and a classifier to train, in fp32.

    Args:
        source: a backbone's folder, or settings for random weights.

    Raises:
        SkipError: PEFT is not installed.
    """
    peft = extra("peft")
    logging.getLogger("transformers").setLevel(logging.ERROR)  # the classifier is new: no news
    torch.manual_seed(0)
    if isinstance(source, BertConfig):
        source.num_labels = labels
        model = BertForSequenceClassification(source)
    else:
        model = BertForSequenceClassification.from_pretrained(
            source, num_labels=labels, dtype=torch.float32
        )
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


def grouped(rows: Sequence[Row], pad_id: int, epoch: int = 0) -> Iterator[Batch]:
    """Batches of rows of similar length, in random order, as in our training."""
    sampler = LengthGroupedSampler([len(row["input_ids"]) for row in rows], BATCH, seed=1)
    sampler.set_epoch(epoch)
    return batches([rows[i] for i in sampler], pad_id)


def native_bf16() -> bool:
    """Whether our training takes bf16 here."""
    return usable(TrainerConfig()).precision == "bf16-mixed"


def in_bf16(model: nn.Module) -> nn.Module:
    """A copy with bf16 weights: faster than autocast, which casts them in every forward pass."""
    return copy.deepcopy(model).bfloat16()


def task_model(raw: Rows, work: Path, epochs: int) -> nn.Module:
    """PEFT's model, trained on the task's train rows; kept in ``work`` and read again.

    Trained in batches of similar length and in bf16 where the machine computes it faster: this
    saves minutes of the benchmark, and it is served in fp32 all the same.
    """
    model = prompt_tuned(find_embedded_folder("minilm"), len(raw.spec.labels)).to(best_device())
    if epochs == 0:  # untrained: its speed is that of a trained one
        return model
    versions = [torch.__version__, Path(__file__).read_text()]
    file = work / f"peft-{digest([raw.fingerprint, epochs, versions])[:16]}.safetensors"
    if not file.is_file():
        _train(model, raw, epochs)
        work.mkdir(parents=True, exist_ok=True)
        save_file({n: p.detach().cpu() for n, p in trained(model).items()}, file)
    state = load_file(file)
    with torch.no_grad():
        for name, parameter in trained(model).items():
            parameter.copy_(state[name])
    return model.eval()


def _train(model: nn.Module, raw: Rows, epochs: int) -> None:
    """Train on the same rows as our ``tune`` phase: the selection slice is left out."""
    rows, pad = encoded(raw).train, minilm().tokenizer.pad_token_id
    loop = Loop(model, epochs * -(-len(rows) // BATCH), bf16=native_bf16())
    for epoch in range(epochs):
        loop.run(grouped(rows, pad, epoch))


@torch.inference_mode()
def answer(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[tuple[str, ...]],
    by_length: bool = False,
) -> list[int]:
    """Label indices of ``texts`` (one or two strings each), in their order.

    File order, batches of 32 padded to their longest text, tokenised batch by batch; or with
    ``by_length`` tokenised at once and batched in order of length.
    """
    device = next(model.parameters()).device
    options: dict[str, Any] = {"truncation": True, "max_length": MAX_LENGTH}
    order, rows = list(range(len(texts))), None
    if by_length:
        rows = tokenizer(*_columns(texts), **options)
        order.sort(key=lambda i: len(rows["input_ids"][i]))
    answers = [0] * len(texts)
    for start in range(0, len(texts), BATCH):
        part = order[start : start + BATCH]
        if rows is None:
            columns = _columns([texts[i] for i in part])
            inputs = tokenizer(*columns, **options, padding=True, return_tensors="pt")
        else:
            of_part = {name: [values[i] for i in part] for name, values in rows.items()}
            inputs = tokenizer.pad(of_part, return_tensors="pt")
        labels = model(**inputs.to(device)).logits.argmax(-1).tolist()
        for i, label in zip(part, labels, strict=True):
            answers[i] = label
    return answers


def _columns(texts: Sequence[tuple[str, ...]]) -> list[list[str]]:
    return [list(column) for column in zip(*texts, strict=True)]
