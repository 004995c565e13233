"""Fits a model in several processes (``trainer.devices``) that share every batch.

The job's own process does not train. It starts the processes, logs the metrics of the first one,
and loads the best state at the end. So Hydra, caches, loggers and result files exist once, a dying
process fails only its own job, and later phases find no process group. Lightning's launchers do
not fit: ``ddp`` reruns the command line, which may be a whole sweep, and ``ddp_spawn`` returns the
last weights instead of the best.

The number of processes is not part of any cache key: batches and averaged gradients are equal up
to rounding (and dropout, if enabled).
"""

import logging
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
import torch.multiprocessing as mp
from lightning.pytorch.loggers import Logger
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException, start_processes

from skip_exp.callbacks.curves import Curves
from skip_exp.callbacks.keep_best import KeepBest
from skip_exp.config.schema import TrainerConfig
from skip_exp.data.module import TextDataModule
from skip_exp.errors import SkipError
from skip_exp.models.soft_prompt import load_trainable
from skip_exp.training import trainer as tuning
from skip_exp.training.module import PromptTuner

WORK, GROUP, DONE = "work.pt", "group", "done.pt"  # files in the temporary folder of a fit
POLL = 0.2  # seconds between checks of the processes and their metrics
GRACE = 3.0  # seconds that the other processes get to notice a failure


def fit(
    tuner: PromptTuner,
    data: TextDataModule,
    settings: TrainerConfig,
    metric: str,
    seed: int,
    logger: Logger | None,
) -> tuple[KeepBest, Curves]:
    """Like :func:`skip_exp.training.trainer.fit`, but in ``settings.devices`` processes.

    Raises:
        SkipError: a process raised one, or was killed.
        RuntimeError: a process raised any other error.
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
    """Start the processes and wait for them; all have ended when this returns or raises."""
    # PyTorch logs a warning for every process that it has to terminate.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    rows, reports = mp.Pipe(duplex=False)
    arguments = (folder, world, backend, reports if logger else None)
    others = mp.active_children()
    try:
        with _inherited():
            processes = start_processes(_rank, arguments, world, join=False)
        while not processes.join(POLL, GRACE):
            _log(rows, logger)
        _log(rows, logger)
    except ProcessException as error:
        raise process_failure(error, world) from error
    finally:
        for process in mp.active_children():
            if process not in others:
                process.kill()
                process.join()


@contextmanager
def _inherited() -> Iterator[None]:
    """Let started processes ignore Ctrl-C and SIGTERM, and silence their C++ libraries.

    This process handles both signals and ends the others.
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


def process_failure(error: ProcessException, world: int) -> Exception:
    """The error of one process, to be raised by the job."""
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
    """Main function of one process of the fit."""
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}  # Lightning: already launched
    # Pickle is safe here: the parent has just written the file to a private folder.
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
        (folder / WORK).unlink()  # it may be large, and every process has read it
    logger = Relay(reports) if reports and rank == 0 else None
    # Processes see different rows, so their dropout masks must differ too.
    own_seed = (seed + rank) % 2**32
    result = tuning.fit(tuner, data, settings, metric, own_seed, logger)
    if rank == 0:
        torch.save(result, folder / DONE)
    dist.destroy_process_group()


def _end_with_parent(folder: Path) -> None:
    """Clean up and exit when the job's process ends, which may have been killed."""
    parent = mp.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


class Relay(Logger):
    """Sends metrics to the job's process, which has the real logger."""

    name = version = None

    def __init__(self, reports: Connection) -> None:
        super().__init__()
        self.reports = reports

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.reports.send((dict(metrics), step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the job's process logs the whole configuration."""
