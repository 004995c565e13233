import pytest
import torch
from torch import arange, tensor

from skip_exp.models.families.base import hooked
from skip_exp.models.sites import Site
from skip_exp.neurons.ablate import means, reverse, without
from skip_exp.pruning.surgery import cut
from tests.helpers.hand import TwoUnits, texts
from tests.helpers.tiny import KINDS, READOUT, tiny_batch, tiny_inputs, tiny_model

FFN, HEADS = Site("encoder.0.ffn"), Site("encoder.1.self.heads")
KEEP = {FFN: tensor([1, 4, 7]), HEADS: tensor([2])}


def test_means_of_real_positions_by_hand():
    # Units (x, 2x) of x = 1, 3, 2; the padded 50 does not count.
    found = means(TwoUnits(), [texts([1, 3, 50], labels=[1]), texts([2], labels=[0])])
    assert found["encoder.0.ffn"].tolist() == [2, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_a_removed_neuron_answers_its_mean(kind):
    """Equal to the uncut model whose activations are overwritten."""
    model = tiny_model(kind, readout=READOUT[kind])
    said = means(model, [tiny_batch(kind, rows=6)])
    head = model.attention_blocks()["encoder.1.self"].attention.vo_dim
    gone = {
        "encoder.0.ffn": [i for i in range(20) if i not in (1, 4, 7)],
        "encoder.1.self": [*range(2 * head)],
    }

    def says(name):
        def change(_, given):
            x = given[0].clone()
            x[..., gone[name]] = said[name][gone[name]]
            return (x,)

        return change

    inputs = tiny_inputs(kind, seed=1)
    with torch.inference_mode():
        found = without(model, KEEP, said)(**inputs)
        blocks = [block for block in model.blocks() if block.name in gone]
        with hooked(b.output.register_forward_pre_hook(says(b.name)) for b in blocks):
            torch.testing.assert_close(found, model(**inputs))
        assert not torch.allclose(found, cut(model, KEEP)(**inputs))


def test_zero_is_a_plain_cut_and_the_dense_model_stays():
    model, inputs = tiny_model(), tiny_inputs()
    with torch.inference_mode():
        before = model(**inputs)
        assert torch.equal(without(model, KEEP)(**inputs), cut(model, KEEP)(**inputs))
        without(model, KEEP, means(model, [tiny_batch()]))
        assert torch.equal(model(**inputs), before)


def test_a_whole_sublayer_answers_its_mean():
    model, batch = tiny_model(), tiny_batch(rows=1)
    said = means(model, [batch])
    empty = {FFN: arange(0)}
    bias = without(model, empty, said).blocks()[1].output.bias
    weight = model.blocks()[1].output
    torch.testing.assert_close(bias, weight(said["encoder.0.ffn"]))


def test_reverse_turns_the_order_around():
    scores = {FFN: tensor([0.1, 0.5, 0.3])}
    assert reverse(scores)[FFN].argsort().tolist() == [1, 2, 0]
