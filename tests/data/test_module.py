from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from skip_exp.config.schema import TrainerConfig
from skip_exp.data.batches import UNLABELLED
from skip_exp.data.module import LengthGroupedSampler, TextDataModule, draw_batches, encode
from skip_exp.data.rows import Rows
from skip_exp.errors import DataError
from skip_exp.phases.fit import ask

from .conftest import spec

LENGTHS = [1 + (i * 7) % 23 for i in range(205)]
A = 4  # id of the token ``a``


@pytest.fixture
def encoded(tokenizer: PreTrainedTokenizerFast) -> Rows:
    """200 train rows of 1 to 20 words, which are ``b`` in the selection slice, else ``a``."""
    texts = [" ".join(["ab"[i % 10 == 9]] * (1 + i * 7 % 20)) for i in range(200)]
    rows = [{"texts": [text], "label": i // 2 % 2} for i, text in enumerate(texts)]
    found = Rows(
        spec=spec(extra=["more"]),
        train=[row for i, row in enumerate(rows) if i % 10 != 9],
        select=rows[9::10],
        validation=rows[:50],
        extra={"more": [{"texts": ["a"], "label": 1}]},
        source="local:x",
        fingerprint="f",
    )
    return encode(found, tokenizer, 32)


def order(epoch: int, seed: int = 1, batch: int = 8) -> list[int]:
    sampler = LengthGroupedSampler(LENGTHS, batch, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_each_epoch_is_a_permutation_that_seed_and_epoch_fix() -> None:
    assert sorted(order(0)) == list(range(205))
    assert order(3) == order(3)  # whatever ran before
    assert len({tuple(order(e, s)) for e in range(3) for s in range(3)}) == 9
    assert sorted(order(0, batch=500)) == list(range(205))


def test_a_batch_holds_rows_of_similar_length() -> None:
    for epoch in range(3):
        ids = order(epoch)
        spreads = [
            max(LENGTHS[i] for i in part) - min(LENGTHS[i] for i in part)
            for part in (ids[k : k + 8] for k in range(0, 200, 8))
        ]
        assert max(spreads) <= 2  # of 23
        assert [LENGTHS[i] for i in ids[:200]] != sorted(LENGTHS[i] for i in ids[:200])


def test_loaders_read_their_own_slice(encoded: Rows) -> None:
    module = TextDataModule(encoded, batch=16, seed=1)
    sizes = {
        "train": [len(b["labels"]) for b in module.train_dataloader()],
        "val": [len(b["labels"]) for b in module.val_dataloader()],
    }
    assert {k: (sum(v), max(v)) for k, v in sizes.items()} == {
        "train": (180, 16), "val": (20, 20),
    }  # fmt: skip
    assert all(b["input_ids"][:, 1].eq(A).all() for b in module.train_dataloader())
    assert all(b["input_ids"][:, 1].eq(A + 1).all() for b in module.val_dataloader())


def test_train_batches_have_few_widths(encoded: Rows) -> None:
    few = TextDataModule(encoded, batch=4, seed=1)  # rows of 3 to 22 tokens
    masks = [b["attention_mask"] for b in few.train_dataloader()]
    # In steps of four, but never wider than the longest row: it may be as long as positions reach.
    assert {m.shape[1] for m in masks} == {4, 8, 12, 16, 20, 22}
    assert all(m.shape[1] - int(m.sum(1).max()) < 4 for m in masks)


def test_attribution_draws_from_train_only(encoded: Rows) -> None:
    batches = draw_batches(encoded, 50, 16, seed=3)
    assert [len(b["labels"]) for b in batches] == [16, 16, 16, 2]
    assert all(b["input_ids"][:, 1].eq(A).all() for b in batches)
    again = draw_batches(encoded, 50, 16, seed=3)
    assert all(
        torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(batches, again, strict=True)
    )
    lengths = [b["attention_mask"].sum(1) for b in (*batches, *draw_batches(encoded, 50, 16, 4))]
    assert torch.cat(lengths[:4]).tolist() != torch.cat(lengths[4:]).tolist()
    assert sum(len(b["labels"]) for b in draw_batches(encoded, 999, 64, 3)) == 180


def test_a_tokenizer_without_padding_is_refused(encoded: Rows) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=encoded.tokenizer.backend_tokenizer)
    with pytest.raises(DataError):
        encode(encoded, bare, 16)


def test_answers_to_the_train_rows_come_in_their_order(encoded: Rows) -> None:
    def lengths(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["attention_mask"].sum(1, keepdim=True).float()

    def question(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return lengths(inputs)

    model: Any = torch.nn.Identity()
    found = ask(TrainerConfig("cpu"), model, encoded, encoded.train, question, "lengths")
    assert found[:, 0].tolist() == [len(row["input_ids"]) for row in encoded.train]
    taught = TextDataModule(encoded, batch=16, seed=1, teacher=found)
    for batch in taught.train_dataloader():
        assert torch.equal(batch["teacher"], lengths(batch))


def test_an_epoch_has_a_version_of_every_row(encoded: Rows) -> None:
    """Versions are told apart by their teacher: row i of version v has i + 1000 v."""
    rows = len(encoded.train)
    copies = [{**row, "label": UNLABELLED} for _ in range(2) for row in encoded.train]
    numbers = torch.cat([torch.arange(rows) + 1000 * v for v in range(3)]).float()[:, None]
    every = [*encoded.train, *copies]
    module = TextDataModule(encoded, 16, seed=1, teacher=numbers, rows=every, versions=3)
    batches = list(module.train_dataloader())
    taught = torch.cat([batch["teacher"][:, 0].long() for batch in batches])
    labels = torch.cat([batch["labels"] for batch in batches])
    assert sorted((taught % 1000).tolist()) == list(range(rows))
    assert torch.bincount(taught // 1000).min() > rows / 5
    assert torch.equal(labels == UNLABELLED, taught >= 1000)
