"""The final model against the dense one: does a cut give the speed that its FLOPs promise?"""

from functools import partial

from benchmarks.masked import zero
from benchmarks.models import keep_at, prompted_shape
from benchmarks.tables import Options, Reach, Row
from benchmarks.timing import compare, side_by_side
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut, flops, random_batch
from skip_exp.utils.timing import best_device

TITLE = "Final model against dense model"
ABOUT = (
    "Forward passes in fp32, a prefix prompt of 16, random tokens, random weights. Ours: 52 % of "
    "the block parameters cut. Theirs: the dense prompt-tuned model. Ratio: how many times faster; "
    "to reach: nine tenths of the ratio of the FLOPs. Masked control: the same neurons set to "
    "zero, not cut, which must gain nothing."
)
SIZES = ((1, 32), (1, 128), (8, 32), (8, 128), (32, 32), (32, 128))  # batch, length
CONTROL = Reach(0.95, 1.05)


def measure(options: Options) -> list[Row]:
    """Rows of every size, the final model's and the masked control's."""
    final, dense, masked = trio(prompted_shape(options.shape).to(best_device()))
    rows = []
    for batch, length in SIZES[2:4] if options.quick else SIZES:
        inputs = random_batch(dense, batch, length)
        calls = [partial(model, **inputs) for model in (final, dense, masked)]
        times = side_by_side(calls, seconds=options.seconds(5.0))
        setting = f"{options.shape} shape, batch {batch}, length {length}"
        promised = flops(dense, length) / flops(final, length)
        # A single text leaves a processor's cores idle: what it gains is shown, not judged.
        reach = Reach(low=0.9 * promised) if batch >= 8 else None
        rows.append(compare("final", setting, times, unit="ms", reach=reach))
        rows.append(compare("masked control", setting, times, ours=2, unit="ms", reach=CONTROL))
    return rows


def trio(dense: SoftPromptModel) -> tuple[SoftPromptModel, SoftPromptModel, SoftPromptModel]:
    """The final model, the dense one, and the dense one with the same neurons zeroed."""
    keep = keep_at(dense)
    return cut(dense, keep), dense, zero(dense, keep)
