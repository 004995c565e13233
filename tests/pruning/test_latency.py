"""A speed-up asked for becomes the keep that loses the least relevance in the measured time."""

from itertools import product

import pytest
import torch

from skip_exp.errors import ConfigError
from skip_exp.pruning.allocate import allocate, most
from skip_exp.pruning.latency import Table, Timing, _knapsack, choose, search, shares, widths
from skip_exp.pruning.surgery import cut
from tests.helpers.tiny import KINDS, tiny_model


def test_a_table_by_hand() -> None:
    sites = {
        "encoder.0.ffn": Timing([0, 4], [1.0, 3.0]),
        "encoder.1.ffn": Timing([0, 8], [0.0, 4.0]),
    }
    table = Table(10.0, sites)
    assert table.rest == 3.0
    assert table.speedup({}) == 1.0
    assert table.speedup({"encoder.0.ffn": 2, "encoder.1.ffn": 4}) == pytest.approx(10 / 7)
    assert table.speedup({"encoder.0.ffn": 0, "encoder.1.ffn": 0}) == pytest.approx(10 / 4)


def test_heads_and_dims_save_together() -> None:
    sites = {
        "encoder.0.self.heads": Timing([0, 4], [0.0, 8.0]),
        "encoder.0.self.qk": Timing([0, 2], [5.0, 8.0]),
        "encoder.0.self.vo": Timing([0, 1, 2], [0.0, 6.0, 8.0]),
    }
    table = Table(10.0, sites)
    assert table.rest == 2.0
    of = "encoder.0.self."
    seconds = {
        (4, 2, 2): 8.0,
        (2, 2, 2): 4.0,
        (4, 0, 2): 5.0,
        (4, 1, 2): 6.5,
        (4, 1, 1): 4.5,
        (2, 1, 1): 2.25,  # half the heads, each of the smaller kind
        (4, 2, 0): 0.0,  # without values nothing is left of it
        (4, 0, 0): 0.0,
        (0, 2, 2): 0.0,
    }
    for (heads, qk, vo), left in seconds.items():
        found = table.speedup({of + "heads": heads, of + "qk": qk, of + "vo": vo})
        assert found == pytest.approx(10 / (2 + left)), (heads, qk, vo)


@pytest.mark.parametrize("sites", [["qk", "vo"], ["ffn", "heads"], ["ffn", "heads", "qk", "vo"]])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_neuron_counts_in_the_speed_up(kind: str, sites: list[str]) -> None:
    """As large a cut as is needed and no larger; all of a T5 may go."""
    model = tiny_model(kind)
    sizes, table = model.shapes(), even_table(model)
    generator = torch.Generator().manual_seed(0)
    relevance = {
        site: torch.rand(size, generator=generator)
        for shape in sizes
        for site, size in shape.sites().items()
    }

    def pick(ratio: float) -> dict[str, torch.Tensor]:
        return allocate(relevance, sizes, ratio=ratio, sites=sites, round_to=1)

    limit = most(sizes, sites)
    assert limit == 1 or not kind.startswith("t5") or sites == ["qk", "vo"]
    reach = table.speedup(widths(pick(limit)))
    for target in (reach**0.5, reach * (1 - 1e-9)):
        keep = search(table, target, limit, pick)
        assert target <= table.speedup(widths(keep)) < target * 1.3
        cut(model, keep)


def test_the_least_loss_within_the_budget() -> None:
    lost = [[9.0, 4.0, 0.0], [5.0, 1.0, 0.0], [3.0, 2.0, 0.0]]
    seconds = [[0.0, 2.0, 4.0], [0.0, 1.0, 4.0], [1.0, 2.0, 3.0]]
    for budget in (1.0, 2.0, 3.0, 4.5, 6.0, 7.0, 11.0):
        allowed = [
            choice
            for choice in product(range(3), repeat=3)
            if sum(row[i] for row, i in zip(seconds, choice, strict=True)) <= budget
        ]
        best = min(sum(r[i] for r, i in zip(lost, c, strict=True)) for c in allowed)
        picked = _knapsack(lost, seconds, budget)
        assert sum(row[i] for row, i in zip(seconds, picked, strict=True)) <= budget * 1.001
        assert sum(row[i] for row, i in zip(lost, picked, strict=True)) == pytest.approx(best)


def even_table(model: object) -> Table:
    """One second per unit and head, of which the dims of either kind are half; two that stay."""
    sizes = model.shapes()  # type: ignore[attr-defined]
    sites = {}
    for shape in sizes:
        for site, size in shape.sites().items():
            least = shape.units / 2 if site.kind == "qk" else 0.0
            sites[site] = Timing([0, size[-1]], [least, float(shape.units)])
    return Table(2.0 + sum(s.units for s in sizes), sites)


def test_relevance_counts_as_a_fraction_of_its_family() -> None:
    relevance = {
        "encoder.0.ffn": torch.tensor([30.0, 10.0]),
        "encoder.1.ffn": torch.tensor([40.0]),
        "encoder.0.self.heads": torch.tensor([0.3, -0.1]),
        "decoder.0.self.heads": torch.zeros(2),
    }
    found = {site: part.tolist() for site, part in shares(relevance).items()}
    assert found["encoder.0.ffn"] + found["encoder.1.ffn"] == [0.375, 0.125, 0.5]
    assert found["encoder.0.self.heads"] == pytest.approx([0.75, -0.25])
    assert found["decoder.0.self.heads"] == [0.0, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_of_a_family_does_not_matter(kind: str) -> None:
    model = tiny_model(kind)
    sizes, table = model.shapes(), even_table(model)
    generator = torch.Generator().manual_seed(0)
    one, other = {}, {}
    for s in sizes:
        site = f"{s.name}.heads" if s.qk_cost else s.name
        one[site] = torch.rand(s.units, generator=generator)
        other[site] = one[site] / 16 if s.qk_cost else one[site]
    options = {"target_speedup": 1.5, "sites": ["ffn", "heads"], "round_to": 1}
    keeps = [choose(scores, sizes, table, **options) for scores in (one, other)]
    assert all(torch.equal(keeps[0][site], keeps[1][site]) for site in one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [1.0, 1.5, 3.0])
def test_the_keep_reaches_the_predicted_speedup(kind: str, target: float) -> None:
    model = tiny_model(kind)
    sizes, table = model.shapes(), even_table(model)
    generator = torch.Generator().manual_seed(0)
    relevance = {
        f"{s.name}.heads" if s.qk_cost else s.name: torch.rand(s.units, generator=generator)
        for s in sizes
    }
    keep = choose(
        relevance, sizes, table, target_speedup=target, sites=["ffn", "heads"], round_to=1
    )
    assert target * 0.999 <= table.speedup(widths(keep)) < target * 1.05
    for site, kept in keep.items():  # in each site the most relevant ones stay
        gone = set(range(len(relevance[site]))) - set(kept.tolist())
        assert all(relevance[site][kept].min() >= relevance[site][i] for i in gone if len(kept))
    cut(model, keep)


def test_what_cannot_be_reached_is_refused() -> None:
    model = tiny_model()
    sizes, table = model.shapes(), even_table(model)
    for target, sites, told in (
        (99.0, ["ffn"], r"prune.target_speedup=99.0: must be between 1 and 6.0 with"),
        (0.5, ["ffn"], "prune.target_speedup=0.5: must be between 1 and"),
        (2.0, ["qk"], "prune.sites.*must be ffn, heads or both"),
    ):
        with pytest.raises(ConfigError, match=told):
            choose({}, sizes, table, target_speedup=target, sites=sites)
