"""Layer truncation: whole layers go from the end, whatever is ranked together."""

import pytest

from skip_exp.attribution import depth
from skip_exp.models.surgery import cut, shapes_of
from skip_exp.pruning.allocate import allocate
from tests.helpers import tiny
from tests.helpers.tiny import KINDS, READOUT, tiny_model

LAYERS = 6


@pytest.fixture
def six_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "LAYERS", LAYERS)


def test_by_hand() -> None:
    """24 hidden; FFN units of 25 + 24 parameters, heads of 8 dims of 25 + 25 and 25 + 24."""
    found = depth.scores(tiny_model(), [])
    assert found["encoder.0.ffn"].tolist() == [49.0] * 20
    assert found["encoder.1.ffn"].tolist() == [24.5] * 20
    assert found["encoder.1.self.heads"].tolist() == [8 * (50 + 49) / 2] * 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("six_layers")
def test_at_k_of_l_exactly_the_last_k_layers_are_gone(kind: str) -> None:
    """Of the others no more than makes up for BERT's output biases, which stay of those k."""
    model = tiny_model(kind, readout=READOUT[kind])
    relevance, sizes = depth.scores(model, []), shapes_of(model)
    for k in (2, 5):
        keep = allocate(relevance, sizes, ratio=k / LAYERS, sites=["ffn", "heads"])
        left, more = {shape.name: shape for shape in shapes_of(cut(model, keep))}, 0
        for whole in sizes:
            if whole.name.layer >= LAYERS - k:
                assert left[whole.name].units == 0, (k, whole.name)
                more += whole.rest
            else:
                more -= whole.parameters - left[whole.name].parameters
        assert more >= 0, k


@pytest.mark.usefixtures("six_layers")
def test_the_rest_of_a_ratio_narrows_the_next_layer_from_its_first_neurons() -> None:
    """0.4 of 20424 is two layers and 1457: three times four units of 49, and a head of 792."""
    model = tiny_model()
    keep = allocate(
        depth.scores(model, []), shapes_of(model), ratio=0.4, sites=["ffn", "heads"], round_to=4
    )
    assert [len(keep[f"encoder.{i}.ffn"]) for i in range(6)] == [20, 20, 20, 8, 0, 0]
    assert keep["encoder.3.ffn"].tolist() == list(range(12, 20))
    assert keep["encoder.3.self.heads"].tolist() == [1, 2]
