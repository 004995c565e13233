"""The ranges of activations, from which the scales of 8-bit exports follow."""

from pathlib import Path

import pytest
import torch
from torch import nn

from skip_exp.skill import ranges
from skip_exp.skill.files import read_skill, save_skill
from skip_exp.skill.ranges import measure_ranges
from tests.helpers.saved import save_tiny_skill
from tests.helpers.tiny import KINDS, READOUT, tiny_model

SHORT, LONG = {"input_ids": [12, 13]}, {"input_ids": [14, 15, 16, 17]}


@pytest.mark.parametrize("kind", KINDS)
def test_every_linear_of_the_blocks_has_its_own(kind: str) -> None:
    model = tiny_model(kind, readout=READOUT[kind])
    found = measure_ranges(model, [SHORT, LONG], 0)
    names = {module: name for name, module in model.backbone.named_modules()}
    for block in model.blocks():
        for linear in block.linears():
            assert found[names[linear]].shape == (linear.in_features,)
    short, long = (measure_ranges(model, [row], 0) for row in (SHORT, LONG))
    for name, largest in found.items():  # no padding counts
        assert torch.equal(largest, torch.maximum(short[name], long[name]))


def test_it_is_the_largest_absolute_input(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = tiny_model("bert"), []
    layer: nn.Linear = model.backbone.base_model.encoder.layer[1].output.dense
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    monkeypatch.setattr(ranges, "TEXTS", 2)
    found = measure_ranges(model, [SHORT, LONG, SHORT, LONG], 0)
    assert [len(x[0]) for x in seen] == [2, 2]  # every second row
    expected = torch.cat([x[0] for x in seen]).abs().amax(0)
    (name,) = (n for n, m in model.backbone.named_modules() if m is layer)
    assert torch.equal(found[name], expected)
    assert len(layer._forward_pre_hooks) == 1  # its own are gone


def test_a_file_holds_ranges_that_16_bits_do_not(tmp_path: Path) -> None:
    made = save_tiny_skill(tmp_path)
    wide = {"some.linear": torch.tensor([1.0, 1e6])}
    folder = save_skill(tmp_path / "wide", made.model, made.keep, made.about, wide)
    _, tensors = read_skill(folder)
    assert tensors["range/some.linear"].tolist() == [1, 65504]
