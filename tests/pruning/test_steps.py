"""Several steps: exact indices, cuts that add up, and steps that change nothing by themselves."""

import pytest
import torch
from torch import Tensor

from skip_exp.models.sites import KINDS, site_sizes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.allocate import allocate
from skip_exp.pruning.steps import lift, relative
from skip_exp.pruning.surgery import cut
from tests.helpers.tiny import tiny_inputs, tiny_model

Keep = dict[str, Tensor]
EARLIER = {
    "encoder.0.ffn": torch.tensor([1, 3, 4, 7]),
    "encoder.0.self.heads": torch.tensor([0, 2]),
    "encoder.0.self.qk": torch.tensor([[0, 1, 3], [0, 1, 2], [1, 2, 3]]),  # head 1 is gone
}


def lists(keep: Keep) -> dict[str, object]:
    return {site: kept.tolist() for site, kept in keep.items()}


def test_indices_by_hand() -> None:
    keep = {
        "encoder.0.ffn": torch.tensor([3, 7]),
        "encoder.0.self.heads": torch.tensor([2]),
        "encoder.0.self.qk": torch.tensor([[1, 3], [0, 2], [1, 3]]),
        "encoder.0.self.vo": torch.tensor([[0], [1], [2]]),  # whole so far, but for head 1
        "encoder.1.ffn": torch.tensor([5]),  # whole so far
    }
    assert lists(relative(keep, EARLIER)) == {
        "encoder.0.ffn": [1, 3],
        "encoder.0.self.heads": [1],
        "encoder.0.self.qk": [[1, 2], [0, 2]],
        "encoder.0.self.vo": [[0], [2]],
        "encoder.1.ffn": [5],
    }
    assert lists(relative(keep, {})) == lists(keep)
    assert lists(relative(EARLIER, EARLIER)) == {
        "encoder.0.ffn": [0, 1, 2, 3],
        "encoder.0.self.heads": [0, 1],
        "encoder.0.self.qk": [[0, 1, 2], [0, 1, 2]],
    }


def test_what_is_gone_cannot_be_kept() -> None:
    for site, kept in (
        ("encoder.0.ffn", [3, 5]),
        ("encoder.0.ffn", [3, 8]),
        ("encoder.0.self.heads", [1]),
        ("encoder.0.self.qk", [[0, 2], [0, 1], [1, 2]]),
    ):
        with pytest.raises(ValueError, match=f"{site}: "):
            relative({site: torch.tensor(kept)}, EARLIER)


def test_relevance_by_hand() -> None:
    before = {
        "encoder.0.ffn": torch.tensor([9.0, 9, 9, 9, 9, 9, 9, 9]),
        "encoder.0.self.heads": torch.tensor([9.0, 9, 9]),
        "encoder.0.self.qk": torch.full((3, 4), 9.0),
        "encoder.0.self.vo": torch.full((3, 2), 9.0),
        "encoder.1.ffn": torch.tensor([9.0, 9]),
    }
    own = {
        "encoder.0.ffn": torch.tensor([1.0, 2, 3, 4]),
        "encoder.0.self.heads": torch.tensor([5.0, 6]),
        "encoder.0.self.qk": torch.tensor([[1.0, 2, 3], [4, 5, 6]]),
        "encoder.0.self.vo": torch.tensor([[1.0, 2], [3, 4]]),
        "encoder.1.ffn": torch.tensor([7.0, 8]),
    }
    assert lists(lift(own, EARLIER, before)) == {
        "encoder.0.ffn": [9, 1, 9, 2, 3, 9, 9, 4],
        "encoder.0.self.heads": [5, 9, 6],
        "encoder.0.self.qk": [[1, 2, 9, 3], [9, 9, 9, 9], [9, 4, 5, 6]],
        "encoder.0.self.vo": [[1, 2], [9, 9], [3, 4]],
        "encoder.1.ffn": [7, 8],
    }
    assert before["encoder.0.ffn"].tolist() == [9] * 8


def drawn(model: SoftPromptModel, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {s: torch.randn(n, generator=generator) for s, n in site_sizes(model.shapes()).items()}


def walk(
    relevance: Keep, model: SoftPromptModel, count: int, ratio: float, renewed: int = 0, **settings
) -> list[Keep]:
    """What each step keeps; ``renewed``: seed of the relevances of later steps, 0 for the same."""
    keep: Keep = {}
    kept = []
    for step in range(1, count + 1):
        now = drawn(model, renewed + step) if renewed and step > 1 else relevance
        keep = allocate(
            now,
            model.shapes(),
            ratio=ratio * step / count,
            earlier=keep,
            last=step == count,
            **settings,
        )
        kept.append(keep)
    return kept


@pytest.mark.parametrize("allocation", ["global", "uniform"])
@pytest.mark.parametrize("sites", [["ffn"], ["ffn", "heads"], ["qk", "vo"], list(KINDS)], ids=len)
@pytest.mark.parametrize("kind", ["bert", "t5_gated"])
def test_steps_of_the_same_relevance_are_one_step(
    kind: str, sites: list[str], allocation: str
) -> None:
    model = tiny_model(kind, readout="seq2seq" if kind == "t5_gated" else "head")
    settings = {"sites": sites, "allocation": allocation}
    for seed in range(2):
        relevance = drawn(model, seed)
        for ratio in (0.1, 0.23, 0.35) if len(sites) > 1 else (0.1, 0.23):
            for round_to in (1, 3):
                one = walk(relevance, model, 1, ratio, round_to=round_to, **settings)[-1]
                for count in (2, 5):
                    many = walk(relevance, model, count, ratio, round_to=round_to, **settings)
                    assert lists(many[-1]) == lists(one)


def test_ties_do_not_tell_steps_apart() -> None:
    model = tiny_model()
    flat = {site: torch.zeros(n) for site, n in site_sizes(model.shapes()).items()}
    settings = {"sites": list(KINDS), "allocation": "global", "round_to": 1}
    one, many = (walk(flat, model, count, 0.4, **settings)[-1] for count in (1, 4))
    assert lists(one) == lists(many)


@pytest.mark.parametrize("kind", ["bert", "t5_gated"])
def test_cuts_of_a_cut_model_add_up(kind: str) -> None:
    dense = tiny_model(kind, readout="seq2seq" if kind == "t5_gated" else "head")
    settings = {"sites": list(KINDS), "allocation": "uniform", "round_to": 2}
    keeps = walk(drawn(dense, 0), dense, 4, 0.6, renewed=10, **settings)
    model, earlier = dense, Keep()
    batch = tiny_inputs(kind)
    lost_heads = 0
    for keep in keeps:
        for site, kept in keep.items():  # nothing comes back
            heads = keep.get(f"{site.rpartition('.')[0]}.heads", torch.arange(len(kept)))
            rows = [(kept, earlier.get(site))] if kept.dim() == 1 else []
            if kept.dim() == 2 and site in earlier:
                rows = [(kept[i], earlier[site][i]) for i in heads]
            assert all(had is None or set(k.tolist()) <= set(had.tolist()) for k, had in rows)
            lost_heads += site.endswith(".heads") and 0 < len(kept) < 3
        model, earlier = cut(model, relative(keep, earlier)), keep
        at_once = cut(dense, keep)
        for (name, a), (other, b) in zip(
            model.named_parameters(), at_once.named_parameters(), strict=True
        ):
            assert name == other and torch.equal(a, b)
        ids = [
            [b.attention.head_ids for b in m.attention_blocks().values()] for m in (model, at_once)
        ]
        assert ids[0] == ids[1]
        with torch.no_grad():
            assert torch.equal(model(**batch), at_once(**batch))
    assert lost_heads  # dims of heads that were gone were renumbered


def test_what_is_gone_goes_first_whatever_its_relevance_is_now() -> None:
    model = tiny_model()
    size = model.shapes()
    settings = {"sites": ["ffn"], "round_to": 1}
    first = allocate(drawn(model, 0), size, ratio=0.1, **settings)
    reverse = {site: -scores for site, scores in drawn(model, 0).items()}
    second = allocate(reverse, size, ratio=0.2, earlier=first, **settings)
    assert all(set(second[s].tolist()) <= set(first[s].tolist()) for s in first)
    assert lists(second) != lists(allocate(reverse, size, ratio=0.2, **settings))
