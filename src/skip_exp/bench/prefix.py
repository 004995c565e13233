"""What a prefix prompt costs: its keys and values are constants at inference."""

from functools import partial

import torch
from torch import Tensor

from skip_exp.bench import models
from skip_exp.bench.row import Options, Reach, Row
from skip_exp.bench.timing import side_by_side
from skip_exp.machine.timing import best_device
from skip_exp.models.cost import random_batch
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.surgery import cut

TITLE = "Prefix prompt against no prompt"
ABOUT = (
    "Forward passes in fp32, random weights, texts of half to full length. Ours: a prefix prompt "
    "of 16. Theirs: the same model without any prompt. Ratio: our time over theirs."
)
SIZES = ((8, 32), (8, 128), (32, 32))


def measure(options: Options) -> list[Row]:
    """Rows of every size, dense and pruned."""
    shape = "bert-tiny" if options.quick else "bert-base"
    backbone = models.backbone(models.config(shape))
    with_prompt, without = models.prompted(backbone), models.prompted(backbone, "none")
    # Both share one backbone: each forward pass installs its own prompt, or none.
    keep = models.keep_at(with_prompt)
    pairs = {
        "dense": [with_prompt, without],
        "52 % pruned": [cut(with_prompt, keep), cut(without, keep)],
    }
    sizes = SIZES[:1] if options.quick else SIZES
    return [
        _row(f"{shape} shape, {name}", pair, *size, 0.5 if options.quick else 5.0)
        for name, pair in pairs.items()
        for size in sizes
    ]


def texts(model: SoftPromptModel, batch: int, length: int) -> dict[str, Tensor]:
    """Random tokens [batch, length], right-padded: lengths from half to full, evenly."""
    inputs = random_batch(model, batch, length)
    lengths = torch.linspace(length // 2, length, batch).long().to(inputs["input_ids"].device)
    real = torch.arange(length, device=lengths.device) < lengths[:, None]
    return {"input_ids": inputs["input_ids"] * real, "attention_mask": real.long()}


def _row(name: str, pair: list[SoftPromptModel], batch: int, length: int, seconds: float) -> Row:
    for model in pair:
        model.to(best_device())
    inputs = texts(pair[0], batch, length)
    times = side_by_side([partial(model, **inputs) for model in pair], seconds=seconds, least=5)
    ratio, spread = times.ratio(0, 1)
    return Row(
        "forward",
        f"{name}, batch {batch}, length {length}",
        1e3 * times.median(0),
        1e3 * times.median(1),
        "ms",
        ratio,
        spread,
        Reach(high=1.05),
        times.contended,
    )
