"""Times the sublayers on this device, which decides what to prune where the goal is a speed-up."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from skip_exp.cache.store import Entry
from skip_exp.job.job import Job
from skip_exp.models.cost import random_batch
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.latency import Table, Timing, measure, widths
from skip_exp.training.trainer import root_device
from skip_exp.utils.machine import hardware
from skip_exp.utils.timing import alone, place

ATTEMPTS = 3  # to measure while nothing else runs


@dataclass(frozen=True)
class Timed:
    """A table of times, and the conditions of the measurement.

    Attributes:
        place: ``device`` and ``threads``.
        contended: other processes took cores that it needed.
    """

    table: Table
    place: dict[str, Any]
    contended: bool

    def about(self, keep: Keep) -> dict[str, Any]:
        """The entry in a result; ``speedup`` is what the table predicts for ``keep``."""
        speedup = self.table.speedup(widths(keep))
        return {**self.place, "contended": self.contended, "speedup": speedup}


def time_sublayers(job: Job, dense: SoftPromptModel) -> Timed:
    """Measure once per machine and shape, so that repeated jobs keep the same neurons.

    A contended table is used by this job only and not cached.
    """
    size, device = job.cfg.benchmark, root_device(job.trainer)
    here, model = place(device), dense.to(device).eval()
    shape = {part: job.keys["tune"][part] for part in ("backbone", "prompt", "own")}
    key = shape | {"size": [size.batch, size.seq_len], "hardware": hardware()} | here
    values = job.cache.get("latency", key, lambda: _measure(job, model, device)).values
    sites = {site: Timing(*timing) for site, timing in values["sites"].items()}
    return Timed(Table(values["total"], sites), here, values["contended"])


def _measure(job: Job, model: SoftPromptModel, device: torch.device) -> Entry:
    inputs = random_batch(model, job.cfg.benchmark.batch, job.cfg.benchmark.seq_len)
    table, contended = alone(partial(measure, model, inputs), attempts=ATTEMPTS, device=device)
    sites = {site: [timing.widths, timing.seconds] for site, timing in table.sites.items()}
    values = {"total": table.total, "sites": sites, "contended": contended}
    return Entry(values=values, keep=not contended)
