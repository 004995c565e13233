"""Rows of token ids put together to batches; for training and for answering alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# input_ids, (token_type_ids): list[int]; (label, half: int; teacher: list[float])
Row = dict[str, Any]
# input_ids, attention_mask, (token_type_ids): [n, longest]; (labels, half: [n]);
# (teacher: [n, labels])
Batch = dict[str, Tensor]


def collate(rows: Sequence[Mapping[str, Any]], pad_id: int) -> Batch:
    """Right-pad rows to the longest of them; padding has mask 0 and token type 0.

    ``labels``, ``half`` and ``teacher`` (logits, fp32 [n, labels]), where the rows carry them.
    """
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    width = int(lengths.max())

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
    if "half" in rows[0]:
        batch["half"] = torch.tensor([row["half"] for row in rows])
    if "teacher" in rows[0]:
        batch["teacher"] = torch.tensor([row["teacher"] for row in rows])
    return batch
