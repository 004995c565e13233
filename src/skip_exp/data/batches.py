"""Collates rows of token ids into padded batches, for training and for inference."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# input_ids, (token_type_ids): list[int]; (label: int; teacher: logits [labels])
Row = dict[str, Any]
# input_ids, attention_mask, (token_type_ids): [n, longest]; (labels: [n]; teacher: [n, labels])
Batch = dict[str, Tensor]

UNLABELLED = -100  # label of a row that only a teacher labels; torch's cross-entropy skips it


def collate(rows: Sequence[Mapping[str, Any]], pad_id: int, step: int = 1, most: int = 0) -> Batch:
    """Right-pad rows to a common width; padding has mask 0 and token type 0.

    Labels and a teacher's logits (as fp32) are included where the rows have them.

    Args:
        step: the width is rounded up to a multiple of this.
        most: rounding never exceeds this width.
    """
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    longest = int(lengths.max())
    width = max(longest, min(-(-longest // step) * step, most))

    def padded(key: str, fill: int) -> Tensor:
        return torch.tensor([row[key] + [fill] * (width - len(row[key])) for row in rows])

    batch = {
        "input_ids": padded("input_ids", pad_id),
        "attention_mask": (torch.arange(width) < lengths[:, None]).long(),
    }
    if "token_type_ids" in rows[0]:
        batch["token_type_ids"] = padded("token_type_ids", 0)
    if "label" in rows[0]:
        batch["labels"] = torch.tensor([row["label"] for row in rows])
    if "teacher" in rows[0]:
        batch["teacher"] = torch.stack([row["teacher"] for row in rows]).float()
    return batch
