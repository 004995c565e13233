"""prune: irrelevant neurons are removed from the weights; what stays is the subnetwork."""

import logging
from typing import NamedTuple

import lightning as L

from skip_exp.callbacks.between import PruningCallback
from skip_exp.config.groups import MISSED, PruneConfig
from skip_exp.config.schema import TrainerConfig
from skip_exp.models.shapes import block_parameters, keep_sizes, shapes_of
from skip_exp.models.sites import Keep, Relevance, Site
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training.trainer import act_between

log = logging.getLogger(__name__)


class Pruned(NamedTuple):
    """The subnetwork before re-tuning, with the dense model's prompt and readout."""

    model: SoftPromptModel
    keep: Keep  # in indices of the dense model


def prune(
    trainer: TrainerConfig,
    dense: SoftPromptModel,
    relevance: Relevance,
    settings: PruneConfig,
    ratio: float,
    seed: int,
) -> Pruned:
    """The relevant part of ``dense``, which is not changed.

    Args:
        ratio: fraction of the block parameters to remove.
    """
    callback = PruningCallback(
        relevance,
        ratio,
        sites=settings.sites,
        allocation=settings.allocation,
        round_to=settings.round_to,
        layers=settings.layers,
    )
    L.seed_everything(seed, verbose=False)  # a custom allocation may draw at random
    return Pruned(act_between(trainer, dense, callback), callback.keep)


def log_reached(dense: SoftPromptModel, pruned: Pruned, ratio: float) -> None:
    """Log what was pruned, as a warning where ``ratio`` could not be met."""
    reached = 1 - block_parameters(pruned.model) / block_parameters(dense)
    kinds: dict[str, tuple[int, int]] = {}
    for site, (kept, of) in keep_sizes(shapes_of(dense), pruned.keep).items():
        before, after = kinds.get(Site(site).kind, (0, 0))
        kinds[Site(site).kind] = before + of, after + kept
    sizes = ", ".join(f"{kind} {of:,} -> {kept:,}" for kind, (of, kept) in kinds.items())
    if abs(reached - ratio) > MISSED:
        message = "pruned %.1f %% of the block parameters, not prune.ratio=%s: %s"
        log.warning(message, 100 * reached, ratio, sizes)
    else:
        log.info("pruned %.1f %% of the block parameters: %s", 100 * reached, sizes)
