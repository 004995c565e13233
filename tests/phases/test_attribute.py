"""Parts that draw at random draw the same, whatever ran before."""

import random
from pathlib import Path
from typing import Any

import torch

from skip_exp.cache.store import Keyed
from skip_exp.models.shapes import shapes_of, site_sizes
from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.attribute import attribute
from skip_exp.phases.prepare import prepare
from skip_exp.phases.prune import prune
from skip_exp.pruning.allocate import Group
from tests.helpers.toy import save_toy, toy_job


def scores_by_chance(model: SoftPromptModel, batches: Any) -> Relevance:
    return {site: torch.rand(size) for site, size in site_sizes(shapes_of(model)).items()}


def order_by_chance(groups: list[Group]) -> list[Group]:
    random.shuffle(groups)
    return groups


def test_a_part_that_draws_at_random_draws_the_same_whatever_ran_before(tmp_path: Path) -> None:
    own = ("attribution=random", f"attribution._target_={__name__}.scores_by_chance")
    own += (f"prune.allocation={__name__}.order_by_chance",)
    job = prepare(toy_job(save_toy(tmp_path), tmp_path, "run", *own))
    dense, seed = job.new_model(), job.seed("prune")
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        random.seed(state)
        relevance = attribute(job, Keyed(f"dense {state}", lambda: dense))[0].value
        random.seed(state)  # as where the relevance comes from the cache
        pruned = prune(job.trainer, dense, relevance, job.cfg.prune, 0.5, seed)
        found.append((relevance, pruned.keep))
    for first, second in zip(*found, strict=True):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[site], second[site]) for site in first)
