"""ModernBERT's layout: what a cut gains, and what our dense model costs beside the library's."""

from functools import partial

import torch
from transformers import ModernBertConfig, ModernBertModel

from benchmarks.models import keep_at, prompted
from benchmarks.tables import Options, Row
from benchmarks.timing import compare, side_by_side
from skip_exp.models.cost import random_batch
from skip_exp.models.families.registry import FAMILIES
from skip_exp.pruning.surgery import cut
from skip_exp.utils.timing import best_device

TITLE = "ModernBERT's layout"
ABOUT = (
    "Forward passes in fp32, random tokens without padding, random weights in the shape of "
    "ettin_17m. Ours: with a prefix prompt of 16, whole or cut. Theirs: our whole model; in the "
    "first row transformers' own ModernBertModel, whose attention is not unpadded on a processor."
)
SHAPE = {"hidden_size": 256, "num_hidden_layers": 7}
SHAPE |= {"num_attention_heads": 4, "intermediate_size": 384}  # ettin_17m
RATIOS = (0.52, 0.7, 0.9)
SIZE = (32, 128)  # batch, length


def config() -> ModernBertConfig:
    return ModernBertConfig(**SHAPE)  # type: ignore[arg-type]


def measure(options: Options) -> list[Row]:
    """A row beside the library, and one for each of RATIOS."""
    batch, length = (2, 16) if options.quick else SIZE
    torch.manual_seed(0)
    library = ModernBertModel(config()).eval()
    family = FAMILIES["modernbert"]
    dense = prompted(family.prepare(ModernBertModel(config())), family=family).to(best_device())
    models = [dense, *(cut(dense, keep_at(dense, ratio)) for ratio in RATIOS)]
    inputs = random_batch(dense, batch, length)
    calls = [partial(model, **inputs) for model in (library.to(best_device()), *models)]
    times = side_by_side(calls, seconds=options.seconds(30.0))
    setting = f"batch {batch}, length {length}"
    rows = [compare("whole", f"{setting}, beside transformers", times, ours=1, theirs=0, unit="ms")]
    for i, ratio in enumerate(RATIOS, 2):
        about = f"{setting}, {ratio:.0%} of the block parameters cut"
        rows.append(compare("final", about, times, ours=i, theirs=1, unit="ms"))
    return rows
