"""Where a speed-up is asked for: the sublayers' times on this device, which decide what is cut."""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

from skip_exp.cache.store import Entry
from skip_exp.job.job import Job
from skip_exp.models.cost import random_batch
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.latency import Table, Timing, widths
from skip_exp.pruning.measure import measure
from skip_exp.training.trainer import root_device
from skip_exp.utils.timing import alone, place

ATTEMPTS = 3  # at a quiet moment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timed:
    """A table, and what a reader must know of it.

    Attributes:
        device: the GPU or the processor that was timed.
        contended: other processes used the machine meanwhile.
    """

    table: Table
    device: str
    threads: int
    contended: bool

    def about(self, keep: Keep) -> dict[str, Any]:
        """What decided ``keep``, as it stands in a result; ``speedup`` is what it predicts."""
        speedup = self.table.speedup(widths(keep))
        told = {"device": self.device, "threads": self.threads, "contended": self.contended}
        return told | {"speedup": speedup}


def time_sublayers(job: Job, dense: SoftPromptModel) -> Timed:
    """Measured once per machine and shape, so that a job's keep can be had again.

    A table that was measured beside other work is this job's alone: the cache keeps none.
    """
    size, device = job.cfg.benchmark, root_device(job.trainer)
    here = place(device)
    key = {
        **{part: job.keys["tune"][part] for part in ("backbone", "prompt", "own")},
        "size": [size.batch, size.seq_len],
        **here,
    }
    model = dense.to(device).eval()
    values = job.cache.get("latency", key, lambda: _measure(job, model)).values
    sites = {site: Timing(*timing) for site, timing in values["sites"].items()}
    contended = values["contended"]
    return Timed(Table(values["total"], sites), contended=contended, **here)


def _measure(job: Job, model: SoftPromptModel) -> Entry:
    inputs = random_batch(model, job.cfg.benchmark.batch, job.cfg.benchmark.seq_len)
    for _ in range(ATTEMPTS):
        table, contended = alone(partial(measure, model, inputs))
        if not contended:
            break
    else:
        log.warning("prune: chosen by a contended timing, which is not kept for other jobs")
    sites = {site: [timing.widths, timing.seconds] for site, timing in table.sites.items()}
    values = {"total": table.total, "sites": sites, "contended": contended}
    return Entry({}, values, keep=not contended)
