"""What a prefix prompt costs: its keys and values are constants at inference."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.models import backbone, config, keep_at, prompted
from benchmarks.tables import Options, Reach, Row
from benchmarks.timing import compare, side_by_side
from skip_exp.models.cost import random_batch
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.surgery import cut
from skip_exp.utils.timing import best_device

TITLE = "Prefix prompt against no prompt"
ABOUT = (
    "Forward passes in fp32, random weights, texts of half to full length. Ours: a prefix prompt "
    "of 16. Theirs: the same model without any prompt. Ratio: our time over theirs."
)
SIZES = ((8, 32), (8, 128), (32, 32))  # batch, length


def measure(options: Options) -> list[Row]:
    """Rows of every size, dense and pruned."""
    model = backbone(config(options.shape)).to(best_device())
    # Both share one backbone: each forward pass installs its own prompt, or none.
    dense = [prompted(model, kind).to(best_device()) for kind in ("prefix", "none")]
    keep = keep_at(dense[0])
    rows = []
    for name, pair in {"dense": dense, "52 % pruned": [cut(m, keep) for m in dense]}.items():
        for batch, length in SIZES[:1] if options.quick else SIZES:
            inputs = texts(pair[0], batch, length)
            calls = [partial(model, **inputs) for model in pair]
            times = side_by_side(calls, seconds=options.seconds(5.0), least=5)
            setting = f"{options.shape} shape, {name}, batch {batch}, length {length}"
            reach = Reach(high=1.05)
            rows.append(compare("forward", setting, times, unit="ms", cost=True, reach=reach))
    return rows


def texts(model: SoftPromptModel, batch: int, length: int) -> dict[str, Tensor]:
    """Random tokens [batch, length], right-padded: lengths from half to full, evenly."""
    inputs = random_batch(model, batch, length)
    lengths = torch.linspace(length // 2, length, batch).long().to(inputs["input_ids"].device)
    real = torch.arange(length, device=lengths.device) < lengths[:, None]
    return {"input_ids": inputs["input_ids"] * real, "attention_mask": real.long()}
