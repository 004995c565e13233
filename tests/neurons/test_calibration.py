import pytest
import torch
from torch import tensor

from skip_exp.neurons.calibration import error, probabilities, reliability

SURE = tensor([[0.85, 0.15], [0.15, 0.85], [0.85, 0.15], [0.35, 0.65]])


def test_error_by_hand():
    # Bin of 0.85: two of three are right, |0.85 - 2/3| * 3/4. Bin of 0.65: right, 0.35 / 4.
    labels = tensor([0, 1, 1, 1])
    assert error(SURE, labels) == pytest.approx(0.75 * (0.85 - 2 / 3) + 0.25 * 0.35, abs=1e-5)


def test_reliability_by_hand():
    found = reliability(SURE, tensor([0, 1, 1, 1]))
    assert found["bin"].tolist() == [6, 8]
    assert found["rows"].tolist() == [1, 3]
    assert found["accuracy"].tolist() == pytest.approx([1, 2 / 3])
    assert found["confidence"].tolist() == pytest.approx([0.65, 0.85])


def test_a_model_that_is_as_sure_as_right_has_no_error():
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(100_000, generator=generator)
    labels = (torch.rand(100_000, generator=generator) < p).long()
    assert error(torch.stack([1 - p, p], -1), labels) < 0.01


def test_certainty_is_in_the_last_bin_of_both():
    found = probabilities(tensor([[100.0, -100.0], [2.44, 0.0]]))  # 1.0 and 0.92
    labels = tensor([1, 0])  # wrong, and right
    diagram = reliability(found, labels)
    assert diagram["bin"].tolist() == [9] and diagram["rows"].tolist() == [2]
    off = abs(diagram["confidence"][0] - diagram["accuracy"][0])
    assert error(found, labels) == pytest.approx(off, abs=1e-5)
