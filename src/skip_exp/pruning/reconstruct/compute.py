"""``prune.reconstruct``: from its name to what it changes in a cut model."""

from collections.abc import Sequence

from skip_exp.data.batches import Batch
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct import closed_form, mask_tuning, sublayer
from skip_exp.pruning.reconstruct.changes import Changes, lost_blocks


def changes(
    model: SoftPromptModel,
    keep: Keep,
    batches: Sequence[Batch],
    *,
    reconstruct: str,
    rank: int = 8,
) -> Changes:
    """What makes up for the loss in ``cut(model, keep)``, to be :func:`changes.apply`-ed to it.

    Args:
        model: the dense model, on the device of the batches; left as it was.
        batches: ``input_ids``, ``attention_mask`` (and token types); padding does not count.
        reconstruct: none, mean, least_squares, sublayer or mask_tuning.
        rank: of the change of each weight (least_squares, sublayer).

    Returns:
        fp32 tensors on the CPU; sublayers that lost nothing have none.
    """
    if reconstruct == "none" or not lost_blocks(model, keep):
        return {}
    if reconstruct == "mask_tuning":
        return mask_tuning.changes(model, keep, batches)
    if reconstruct == "sublayer":
        return sublayer.changes(model, keep, batches, rank=rank)
    return closed_form.changes(
        model, keep, batches, second=reconstruct == "least_squares", rank=rank
    )
