"""Which neurons go, by exact small numbers; then what must hold for any sizes."""

from typing import Any

import pytest
import torch

from skip_exp.errors import ConfigError
from skip_exp.models.family import Sublayer
from skip_exp.models.surgery import Shape, shapes_of, site_sizes
from skip_exp.pruning.allocate import ORDERS, allocate, check
from tests.helpers.tiny import READOUT, tiny_model

pytestmark = pytest.mark.core

FFN = [
    Shape(Sublayer("encoder.0.ffn"), 4, 2, 10),
    Shape(Sublayer("encoder.1.ffn"), 4, 2, 10),
]  # 42 parameters each
RELEVANCE = {
    "encoder.0.ffn": torch.tensor([5.0, 1.0, 2.0, 6.0]),
    "encoder.1.ffn": torch.tensor([0.1, 0.2, 0.3, 9.0]),
}


@pytest.mark.parametrize(
    ("ratio", "options", "first", "second"),
    [
        # 0.48 of 84 is 40 parameters: four units, the lowest of both layers
        (0.48, {}, [0, 2, 3], [3]),
        (0.48, {"allocation": "uniform"}, [0, 3], [2, 3]),
        (0.48, {"round_to": 2}, [0, 3], [2, 3]),  # pairs: 0.3, 3, 9.3, 11
        (0.0, {}, [0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_what_stays_by_hand(
    ratio: float, options: dict[str, Any], first: list[int], second: list[int]
) -> None:
    given = {"sites": ["ffn"], "round_to": 1} | options
    keep = allocate(RELEVANCE, FFN, ratio=ratio, **given)
    assert [kept.tolist() for kept in keep.values()] == [first, second]


@pytest.mark.parametrize(("ratio", "first"), [(0.5, [0, 1, 2, 3]), (0.75, [0, 3])])
def test_later_layers_go_first_by_hand(ratio: float, first: list[int]) -> None:
    """The second layer is 42 of 84 parameters: 21 more are two units of the first."""
    relevance = RELEVANCE | {"encoder.1.ffn": torch.full((4,), torch.nan)}
    keep = allocate(relevance, FFN, ratio=ratio, sites=["ffn"], round_to=1, layers=1)
    assert {site: kept.tolist() for site, kept in keep.items()} == {
        "encoder.0.ffn": first,
        "encoder.1.ffn": [],
    }


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_ties_take_no_more_than_was_asked_for(allocation: str) -> None:
    """0.5 of 84 is 42 parameters, four of eight equal units; the same ones every time."""
    equal = {site: torch.zeros(4) for site in RELEVANCE}
    options = {"sites": ["ffn"], "round_to": 1, "allocation": allocation}
    keeps = [allocate(equal, FFN, ratio=0.5, **options) for _ in range(2)]  # type: ignore[arg-type]
    kept = [{site: indices.tolist() for site, indices in keep.items()} for keep in keeps]
    assert kept[0] == kept[1]
    assert sum(map(len, kept[0].values())) == 4


def test_global_ranks_a_decoder_by_itself() -> None:
    """Its relevances, added up over one token, are small; its cross-attention must not go first."""
    names = ["encoder.0.self", "decoder.0.self", "decoder.0.cross"]
    sizes = [Shape(Sublayer(name), 4, 0, 40) for name in names]
    scale = dict(zip(names, (100.0, 1.0, 0.01), strict=True))
    relevance = {f"{name}.heads": torch.arange(1.0, 5.0) * scale[name] for name in names}
    keep = allocate(relevance, sizes, ratio=0.5, sites=["heads"])
    assert [kept.tolist() for kept in keep.values()] == [[2, 3]] * 3


@pytest.mark.parametrize("allocation", list(ORDERS))
@pytest.mark.parametrize("ratio", [0.1, 0.52, 0.9])
def test_reached_within_a_point_on_a_real_shape(allocation: str, ratio: float) -> None:
    """MiniLM's sizes: 6 layers, hidden 384, 12 heads of 32, FFN 1536."""
    sizes: list[Shape] = []
    for i in range(6):
        sizes.append(Shape(Sublayer(f"encoder.{i}.self"), 12, 384, 32 * (3 * 385 + 384)))
        sizes.append(Shape(Sublayer(f"encoder.{i}.ffn"), 1536, 384, 385 + 384))
    generator = torch.Generator().manual_seed(0)
    relevance = {
        site: torch.randn(size, generator=generator) for site, size in site_sizes(sizes).items()
    }
    keep = allocate(relevance, sizes, ratio=ratio, sites=["ffn", "heads"], allocation=allocation)
    assert all(len(kept) % 8 == 0 for site, kept in keep.items() if site.kind == "ffn")
    after = sum(shape.rest + len(keep[shape.name.site]) * shape.cost for shape in sizes)
    assert ratio - 0.01 < 1 - after / sum(shape.parameters for shape in sizes) <= ratio


def test_shapes_count_what_the_model_has() -> None:
    for kind in ("bert", "modernbert", "t5", "t5_gated"):
        model = tiny_model(kind, readout=READOUT[kind])
        for shape, block in zip(shapes_of(model), model.blocks(), strict=True):
            linears = [*block.inner, block.output]
            assert shape.parameters == sum(p.numel() for m in linears for p in m.parameters())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ratio": 0.97}, r"^prune\.ratio=0\.97: .*0\.952"),
        ({"layers": 3}, r"^prune\.layers=3: .* 2"),
        ({"layers": 1, "ratio": 0.49}, r"^prune\.ratio=0\.49: .*0\.5 "),
        ({"layers": 1, "ratio": 0.98}, r"^prune\.ratio=0\.98: .*0\.976"),
        ({"allocation": "fair"}, r"prune\.allocation=fair: "),
    ],
)
def test_refusals(options: dict[str, object], told: str) -> None:
    given = {"ratio": 0.5, "sites": ["ffn"], "allocation": "global"} | options
    with pytest.raises(ConfigError, match=told):
        check(FFN, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer", [lambda groups: groups.reverse(), lambda groups: groups * 2, lambda groups: [1]]
)
def test_the_answer_of_a_custom_order_is_checked(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ORDERS, "own", answer)
    with pytest.raises(ConfigError, match=r"^prune\.allocation=own: "):
        allocate(RELEVANCE, FFN, ratio=0.5, sites=["ffn"], allocation="own")


def test_a_layer_without_neurons_is_passed_over() -> None:
    sizes = [Shape(Sublayer("encoder.0.ffn"), 0, 2, 10), FFN[1]]
    relevance = RELEVANCE | {"encoder.0.ffn": torch.tensor([])}
    keep = allocate(relevance, sizes, ratio=0.46, sites=["ffn"], round_to=1)
    assert keep["encoder.1.ffn"].tolist() == [2, 3]
