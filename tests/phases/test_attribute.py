"""What a method of anybody's returns is checked against the sites that there are."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skip_exp.job.prepare import prepare
from skip_exp.models.sites import Relevance, Site, site_sizes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.attribute import checked, relevance_of
from skip_exp.phases.prune import subnetwork
from skip_exp.pruning.allocate import Group
from tests.helpers.toy import save_toy, toy_job

SIZES = {Site("encoder.0.ffn"): (3,), Site("encoder.0.self.qk"): (2, 2)}
GOOD = {"encoder.0.ffn": torch.tensor([1.0, 2, 3]), "encoder.0.self.qk": torch.ones(2, 2)}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "must return {site: scores}, found NoneType"),
        (torch.zeros(3), "must return {site: scores}, found Tensor"),
        ({}, r"encoder\.0\.ffn: found nothing, needed a tensor \[3\]"),
        (GOOD | {"encoder.0.self.qk": None}, r"self\.qk: found nothing, needed a tensor \[2, 2\]"),
        (GOOD | {"encoder.0.ffn": [1, 2, 3]}, r"ffn: found list, needed a tensor \[3\]"),
        (GOOD | {"encoder.0.self.qk": torch.ones(2)}, r"qk: found scores \[2\], needed \[2, 2\]"),
        (GOOD | {"encoder.0.ffn": torch.tensor(1.0)}, r"found scores \[\], needed \[3\]"),
        (GOOD | {"encoder.0.ffn": torch.tensor([1, torch.nan, torch.inf])}, "2 of 3 .* not finite"),
        (GOOD | {"encoder.0.ffn": np.array(["a", "b", "c"])}, "type <U1, needed numbers"),
        (GOOD | {"encoder.9.ffn": torch.ones(3)}, r"encoder\.9\.ffn: no such site; there are enc"),
    ],
)
def test_what_does_not_fit_is_told_by_site_and_shape(found: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        checked(found, SIZES)


def test_arrays_and_other_types_become_fp32() -> None:
    given = GOOD | {"encoder.0.ffn": np.array([1, 2, 3])}
    result = checked(given, SIZES)
    assert result.keys() == SIZES.keys()
    assert result["encoder.0.ffn"].dtype == torch.float32
    assert result["encoder.0.ffn"].tolist() == [1, 2, 3]


def scores_by_chance(model: SoftPromptModel, batches: Any) -> Relevance:
    return {site: torch.rand(size) for site, size in site_sizes(model.shapes()).items()}


def order_by_chance(groups: list[Group]) -> list[Group]:
    random.shuffle(groups)
    return groups


def test_a_part_that_draws_at_random_draws_the_same_whatever_ran_before(tmp_path: Path) -> None:
    own = ("attribution=random", f"attribution._target_={__name__}.scores_by_chance")
    own += (f"prune.allocation={__name__}.order_by_chance",)
    job = prepare(toy_job(save_toy(tmp_path), tmp_path, "run", *own))
    dense = job.new_model()
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        random.seed(state)
        relevance = relevance_of(job, dense)
        random.seed(state)  # as where the relevance comes from the cache
        found.append((relevance, subnetwork(job, dense, relevance, 0.5, None)[1]))
    for first, second in zip(*found, strict=True):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[site], second[site]) for site in first)
