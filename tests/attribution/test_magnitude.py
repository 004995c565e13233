"""Exact values by hand; a cut leaves the norms of what it keeps as they were."""

import pytest
import torch

from skip_exp.attribution import magnitude
from skip_exp.models.families.base import AttentionBlock
from skip_exp.pruning.surgery import cut
from tests.helpers.tiny import KINDS, tiny_model

pytestmark = pytest.mark.core


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_changes_no_norm_of_what_it_keeps(kind: str) -> None:
    model = tiny_model(kind)
    before = magnitude.scores(model, [])
    keep = {
        b.name: torch.tensor([0, 3, 7]) for b in model.blocks() if not isinstance(b, AttentionBlock)
    }
    keep |= {f"{name}.heads": torch.tensor([0, 2]) for name in model.attention_blocks()}
    after = magnitude.scores(cut(model, keep), [])
    for site, scores in after.items():
        block, _, kind = site.rpartition(".")
        kept = keep[site if kind == "ffn" else f"{block}.heads"]
        torch.testing.assert_close(scores, before[site][kept])


@pytest.mark.parametrize("kind", ["bert", "modernbert", "t5"])
def test_a_whole_block_is_the_norm_of_its_neurons(kind: str) -> None:
    model = tiny_model(kind)
    found = magnitude.scores(model, [])
    for name, block in model.attention_blocks().items():
        layers = [*block.attention.projections(), block.output]
        weights = [layer.weight for layer in layers]
        weights += [layer.bias for layer in layers[:3] if layer.bias is not None]
        expected = torch.cat([w.detach().flatten() for w in weights]).norm()
        torch.testing.assert_close(found[f"{name}.heads"].norm(), expected)
        dims = torch.cat([found[f"{name}.{site}"].flatten() for site in ("qk", "vo")])
        torch.testing.assert_close(dims.norm(), expected)
