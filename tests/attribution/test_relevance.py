"""What a method returns, which may be anybody's, is checked against the sites that there are."""

from typing import Any

import numpy as np
import pytest
import torch

from skip_exp.callbacks.between import check_relevance
from skip_exp.models.sites import Site

pytestmark = pytest.mark.core

SIZES = {Site("encoder.0.ffn"): 3, Site("encoder.0.self.heads"): 2}
GOOD = {"encoder.0.ffn": torch.tensor([1.0, 2, 3]), "encoder.0.self.heads": torch.ones(2)}


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "NoneType"),
        (torch.zeros(3), "Tensor"),
        ({}, r"encoder\.0\.ffn: .*\[3\]"),
        (GOOD | {"encoder.0.self.heads": None}, r"self\.heads: .*\[2\]"),
        (GOOD | {"encoder.0.ffn": [1, 2, 3]}, r"ffn: .*list.*\[3\]"),
        (GOOD | {"encoder.0.self.heads": torch.ones(2, 2)}, r"heads: .*\[2, 2\].*\[2\]"),
        (GOOD | {"encoder.0.ffn": torch.tensor(1.0)}, r"\[\].*\[3\]"),
        (GOOD | {"encoder.0.ffn": torch.tensor([1, torch.nan, torch.inf])}, "ffn: 2 of 3"),
        (GOOD | {"encoder.9.ffn": torch.ones(3)}, r"encoder\.9\.ffn: .*encoder\.0\.ffn"),
        ({site: torch.zeros(size) for site, size in SIZES.items()}, "all 5 scores are 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_site_and_shape(found: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_relevance(found, SIZES)


def test_arrays_and_other_types_become_fp32() -> None:
    given = GOOD | {"encoder.0.ffn": np.array([1, 2, 3])}
    result = check_relevance(given, SIZES)
    assert result.keys() == SIZES.keys()
    assert result["encoder.0.ffn"].dtype == torch.float32
    assert result["encoder.0.ffn"].tolist() == [1, 2, 3]
