"""Text means of the layers: the text's own tokens alone, whatever stands around them."""

import pytest
import torch

from skip_exp.models.hidden import layer_states, layers_left, text_means
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.surgery import cut
from tests.helpers.tiny import HIDDEN, KINDS, LAYERS, tiny_batch, tiny_model

NOTHING = torch.tensor([], dtype=torch.long)


def means(model: SoftPromptModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    inputs = {name: x for name, x in batch.items() if name != "labels"}
    with torch.no_grad(), layer_states(model) as states:
        model(**inputs)
    return text_means(states, batch["attention_mask"])


def test_by_hand() -> None:
    # A virtual token, then texts of two and of one: neither the first column nor padding counts.
    state = torch.tensor([[[9.0], [1.0], [3.0]], [[9.0], [5.0], [7.0]]])
    found = text_means([state, 2 * state], torch.tensor([[1, 1], [1, 0]]))
    assert found.tolist() == [[[2.0], [4.0]], [[5.0], [10.0]]]


@pytest.mark.parametrize("prompt", ["prefix", "input"])
@pytest.mark.parametrize("kind", KINDS)
def test_of_every_family(kind: str, prompt: str) -> None:
    model, batch = tiny_model(kind, prompt), tiny_batch(kind)
    found = means(model, batch)
    assert found.shape == (4, LAYERS, HIDDEN)
    wider = {k: torch.nn.functional.pad(v, (0, 3)) if v.dim() == 2 else v for k, v in batch.items()}
    torch.testing.assert_close(means(model, wider), found)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_last_layer_is_what_the_readout_reads() -> None:
    """The mean over the text, as BERT's head pools it."""
    model, batch = tiny_model("bert"), tiny_batch("bert")
    inputs = {name: x for name, x in batch.items() if name != "labels"}
    with torch.no_grad():
        logits = model.readout.linear(means(model, batch)[:, -1])
        torch.testing.assert_close(logits, model(**inputs))


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_what_vanished_has_no_say_but_the_last_layer(kind: str) -> None:
    whole = tiny_model(kind)
    assert layers_left(whole) == [0, 1]
    gone = {f"encoder.{i}.self.heads": NOTHING for i in range(LAYERS)}
    gone |= {f"encoder.{i}.ffn": NOTHING for i in range(LAYERS)}
    assert layers_left(cut(whole, gone)) == [1]
    first = {site: kept for site, kept in gone.items() if ".0." in site}
    assert layers_left(cut(whole, first)) == [1]
    assert layers_left(cut(whole, first | {"encoder.0.ffn": torch.tensor([3])})) == [0, 1]
