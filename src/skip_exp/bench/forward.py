"""The final model against the dense one: does a cut give the speed that its FLOPs promise?"""

from functools import partial

from skip_exp.bench import models
from skip_exp.bench.row import Options, Reach, Row
from skip_exp.bench.timing import Times, side_by_side
from skip_exp.machine.timing import best_device
from skip_exp.models.cost import flops, random_batch
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.surgery import cut, zero

TITLE = "Final model against dense model"
ABOUT = (
    "Forward passes in fp32, a prefix prompt of 16, random tokens, random weights. Ours: 52 % of "
    "the block parameters cut. Theirs: the dense prompt-tuned model. Ratio: how many times faster; "
    "to reach: nine tenths of the ratio of the FLOPs. Masked control: the same neurons set to "
    "zero, not cut, which must gain nothing."
)
SIZES = ((1, 32), (1, 128), (8, 32), (8, 128), (32, 32), (32, 128))
SECONDS = 5.0  # of one size


def measure(options: Options) -> list[Row]:
    """Rows of every size, the final model's and the masked control's."""
    shape = "bert-tiny" if options.quick else "bert-base"
    dense = models.prompted(models.backbone(models.config(shape)))
    three = [model.to(best_device()) for model in trio(dense)]
    sizes = SIZES[2:4] if options.quick else SIZES
    return [
        row
        for batch, length in sizes
        for row in _rows(shape, three, batch, length, 1.0 if options.quick else SECONDS)
    ]


def trio(dense: SoftPromptModel) -> tuple[SoftPromptModel, SoftPromptModel, SoftPromptModel]:
    """The final model, the dense one, and the dense one with the same neurons zeroed."""
    keep = models.keep_at(dense)
    return cut(dense, keep), dense, zero(dense, keep)


def _rows(
    shape: str, three: list[SoftPromptModel], batch: int, length: int, seconds: float
) -> list[Row]:
    final, dense, _ = three
    inputs = random_batch(dense, batch, length)
    times = side_by_side([partial(model, **inputs) for model in three], seconds=seconds)
    setting = f"{shape} shape, batch {batch}, length {length}"
    promised = flops(dense, length) / flops(final, length)
    reach = Reach(low=0.9 * promised) if batch >= 8 else None
    return [
        _row("final", setting, times, 0, reach),
        _row("masked control", setting, times, 2, Reach(0.95, 1.05)),
    ]


def _row(name: str, setting: str, times: Times, call: int, reach: Reach | None) -> Row:
    ours, theirs = 1e3 * times.median(call), 1e3 * times.median(1)
    return Row(name, setting, ours, theirs, "ms", *times.ratio(1, call), reach, times.contended)
