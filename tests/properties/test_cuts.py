"""A cut model computes what the whole one does whose removed neurons are set to zero."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skip_exp.models.family import Keep
from skip_exp.models.surgery import cut, shapes_of, site_sizes
from tests.helpers.masked import zero
from tests.helpers.tiny import KINDS, tiny_inputs, tiny_model

pytestmark = pytest.mark.property

TOLERANCE = 5e-6
SITES = {kind: site_sizes(shapes_of(tiny_model(kind))) for kind in KINDS}


@st.composite
def subsets(draw: Any, size: int) -> Tensor:
    """Sorted indices below ``size``: all, none or any."""
    flags = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return torch.tensor(flags, dtype=torch.bool).nonzero().flatten()


@st.composite
def keeps(draw: Any, kind: str) -> Keep:
    """Any subset of any site of the tiny model of a kind; some sites are not mentioned."""
    keep: Keep = {}
    for site, size in SITES[kind].items():
        kept = draw(st.none() | st.just(torch.arange(0)) | subsets(size))
        if kept is not None:
            keep[site] = kept
    return keep


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_cut_model_equals_the_masked_one(kind: str, data: st.DataObject) -> None:
    readouts = ["seq2seq"] if kind.startswith("t5") else ["head", "mlm"]
    seed = data.draw(st.integers(0, 9), "seed")
    model = tiny_model(
        kind,
        data.draw(st.sampled_from(["input", "prefix"]), "prompt"),
        data.draw(st.sampled_from(readouts), "readout"),
        seed=seed,
    )
    model.set_attention(data.draw(st.sampled_from(["sdpa", "eager"]), "attention"))
    keep = data.draw(keeps(kind), "keep")
    inputs = tiny_inputs(kind, rows=data.draw(st.integers(1, 4), "rows"), seed=seed)
    smaller = cut(model, keep)
    for site, units in site_sizes(shapes_of(smaller)).items():
        assert units == len(keep.get(site, range(SITES[kind][site])))
    with torch.inference_mode():
        expected = zero(model, keep)(**inputs)
        found = smaller(**inputs)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow  # the normal run has single cuts
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_two_cuts_equal_one(kind: str, data: st.DataObject) -> None:
    """The second counts its indices within what the first left."""
    model = tiny_model(kind, readout="seq2seq" if kind.startswith("t5") else "head")
    first = data.draw(keeps(kind), "first")
    smaller = cut(model, first)
    second: Keep = {}
    both = dict(first)
    for site, size in site_sizes(shapes_of(smaller)).items():
        second[site] = data.draw(subsets(size), str(site))
        both[site] = first.get(site, torch.arange(SITES[kind][site]))[second[site]]
    with torch.inference_mode():
        expected = cut(model, both)(**tiny_inputs(kind))
        found = cut(smaller, second)(**tiny_inputs(kind))
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
