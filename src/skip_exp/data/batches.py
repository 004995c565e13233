"""Rows of token ids put together to batches; for training and for answering alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# input_ids, (token_type_ids): list[int]; (label, half: int; TAUGHT: Tensor)
Row = dict[str, Any]
# input_ids, attention_mask, (token_type_ids): [n, longest]; (labels, half: [n]);
# (TAUGHT: [n, ...])
Batch = dict[str, Tensor]

# What the dense model made of a row: logits [labels]; text means [layers, H].
TAUGHT = ("teacher", "hidden")


def collate(rows: Sequence[Mapping[str, Any]], pad_id: int, step: int = 1, most: int = 0) -> Batch:
    """Right-pad rows to the longest of them, rounded up to a multiple of ``step``.

    Not beyond ``most`` for that. Padding has mask 0 and token type 0.

    ``labels``, ``half``, and what a teacher made of the rows (fp32), where the rows carry them.
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
    if "half" in rows[0]:
        batch["half"] = torch.tensor([row["half"] for row in rows])
    for name in TAUGHT:
        if name in rows[0]:
            batch[name] = torch.stack([row[name] for row in rows]).float()
    return batch
