"""A speed-up asked for becomes the smallest ratio that is as fast in the measured time."""

import pytest
import torch

from skip_exp.errors import ConfigError
from skip_exp.pruning.allocate import allocate, most
from skip_exp.pruning.latency import Table, Timing, search, widths
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


def even_table(model: object) -> Table:
    """One second per unit and head, of which the dims of either kind are half; two that stay."""
    sizes = model.shapes()  # type: ignore[attr-defined]
    sites = {}
    for shape in sizes:
        for site, size in shape.sites().items():
            least = shape.units / 2 if site.kind == "qk" else 0.0
            sites[site] = Timing([0, size[-1]], [least, float(shape.units)])
    return Table(2.0 + sum(s.units for s in sizes), sites)


def test_what_cannot_be_reached_is_refused() -> None:
    table = Table(10.0, {"encoder.0.ffn": Timing([0, 4], [0.0, 8.0])})
    for target in (5.1, 0.5):
        with pytest.raises(ConfigError, match=r"prune\.target_speedup=.* 1 "):
            search(table, target, 1.0, lambda _: {"encoder.0.ffn": torch.arange(0)})
