"""One fit over several processes (``trainer.devices``), each with its share of every batch.

The job's own process takes no part in it: it starts the processes, logs what the first of them
reports, waits, and takes over the best prompt. So Hydra, caches, loggers and result files exist
once; whatever happens to a process fails this job only, even where the others wait for it in the
driver; and the phases that follow find no process group. Lightning's own launchers would run the
command line again, which may be a whole sweep (``ddp``), or keep all weights in shared memory and
bring back nothing but the last ones (``ddp_spawn``).

How many processes there are is no part of a cache key, as little as the number of threads or the
device: batches and averaged gradients are the same up to rounding (and dropout, where it is on).
"""

import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.loggers import Logger
from torch.multiprocessing.spawn import (
    ProcessException,
    ProcessExitedException,
    start_processes,
)

from skip_exp.callbacks.curves import Curves
from skip_exp.callbacks.keep_best import KeepBest
from skip_exp.config.schema import TrainerConfig
from skip_exp.data.module import TextDataModule
from skip_exp.errors import SkipError
from skip_exp.models.soft_prompt import load_trainable
from skip_exp.training import trainer as tuning
from skip_exp.training.module import PromptTuner

WORK, GROUP, DONE = "work.pt", "group", "done.pt"  # files of one fit, in a folder of its own
POLL = 0.2  # seconds between looks at the processes and what they logged
GRACE = 3.0  # seconds that the other processes get to notice that one has failed


def fit(
    tuner: PromptTuner,
    data: TextDataModule,
    settings: TrainerConfig,
    metric: str,
    seed: int,
    logger: Logger | None,
) -> tuple[KeepBest, Curves]:
    """:func:`skip_exp.training.trainer.fit` by ``settings.devices`` processes.

    Raises:
        SkipError: what a process refused, or that one of them was killed.
        RuntimeError: whatever else one of them raised.
    """
    backend = "nccl" if tuning.root_device(settings).type == "cuda" else "gloo"
    with tempfile.TemporaryDirectory(prefix="skip_exp-") as name:
        folder = Path(name)
        torch.save((tuner, data, settings, metric, seed), folder / WORK)
        _run(folder, settings.devices, backend, logger)
        best, curves = torch.load(folder / DONE, weights_only=False)
    load_trainable(tuner.model, best.state)
    return best, curves


def _run(folder: Path, world: int, backend: str, logger: Logger | None) -> None:
    """Start the processes and wait for them; none is left when this returns or raises."""
    # Of one that does not notice in time it would say on the console that it ends it.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    rows, reports = multiprocessing.Pipe(duplex=False)
    arguments = (folder, world, backend, reports if logger else None)
    others = multiprocessing.active_children()
    try:
        with _inherited():
            processes = start_processes(_rank, arguments, world, join=False)
        while not processes.join(POLL, GRACE):
            _log(rows, logger)
        _log(rows, logger)
    except ProcessException as error:
        raise _process_failure(error, world) from error
    finally:
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()
                process.join()


@contextmanager
def _inherited() -> Iterator[None]:
    """What a started process inherits: no ear for Ctrl-C and SIGTERM, and quiet C++ libraries.

    Both signals are this process's to answer, by ending the others.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _log(rows: Connection, logger: Logger | None) -> None:
    while logger and rows.poll():
        metrics, step = rows.recv()
        logger.log_metrics(metrics, step)
        logger.save()


def _process_failure(error: ProcessException, world: int) -> Exception:
    """The failure of one process as this process's own."""
    which = f"process {error.error_index + 1} of {world}"
    if isinstance(error, ProcessExitedException):
        how = error.signal_name or f"exit code {error.exit_code}"
        how += " (out of memory?)" if how == "SIGKILL" else ""
        return SkipError(f"trainer.devices={world}: {which} was ended by {how}")
    traceback = error.msg.rpartition("Traceback (most recent call last):\n")[2]
    line = next(x for x in traceback.splitlines() if x and not x.startswith(" "))
    kind, _, message = line.partition(": ")
    if kind.startswith(SkipError.__module__):
        return SkipError(message)
    return RuntimeError(f"{which}: {line}")


def _rank(rank: int, folder: Path, world: int, backend: str, reports: Connection | None) -> None:
    """One process of the fit, from its start to its end."""
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}  # to Lightning: all are started
    # Pickle is safe here: the folder is this user's alone, and its parent wrote it just now.
    tuner, data, settings, metric, seed = torch.load(
        folder / WORK, map_location="cpu", weights_only=False
    )
    if backend == "nccl":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        backend, init_method=f"file://{folder / GROUP}", rank=rank, world_size=world
    )
    dist.barrier()
    if rank == 0:
        (folder / WORK).unlink()  # all have read it, and it may be large
    logger = Relay(reports) if reports and rank == 0 else None
    # Rows differ between the processes, so their dropout should, too.
    own_seed = (seed + rank) % 2**32
    result = tuning.fit(tuner, data, settings, metric, own_seed, logger)
    if rank == 0:
        torch.save(result, folder / DONE)
    dist.destroy_process_group()


def _end_with_parent(folder: Path) -> None:
    """Wait for the end of the job's process; one that was killed could not clean up itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


class Relay(Logger):
    """Hands what is logged to the job's process, where the real logger is."""

    name = version = None

    def __init__(self, reports: Connection) -> None:
        super().__init__()
        self.reports = reports

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.reports.send((dict(metrics), step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the job's process logs the whole configuration."""
