"""Fits in several processes (``trainer.devices``) that share every batch.

Lightning starts the processes (``ddp_spawn``) and returns the state of the first one. Hydra,
caches, loggers and result files exist in the job's own process only.

The number of processes is not part of any cache key: batches and averaged gradients are equal up
to rounding (and dropout, if enabled).
"""

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.multiprocessing as mp
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException

from skip_exp.errors import SkipError


class Processes(DDPStrategy):
    """DDP in quiet processes that end with the job."""

    def __init__(self) -> None:
        # A sublayer that was removed entirely leaves its norm and its prefix without a gradient.
        # Broadcasting buffers would hang where processes score different numbers of batches.
        super().__init__(start_method="spawn", find_unused_parameters=True, broadcast_buffers=False)

    def setup_environment(self) -> None:
        """Prepare a process; the job's own process does not get here."""
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        super().setup_environment()
        # Processes see different rows, so their dropout masks must differ too.
        torch.manual_seed((torch.initial_seed() + self.global_rank) % 2**32)

    def on_validation_start(self) -> None:
        """Let SIGTERM end this process at once: Lightning's handler would wait for the others."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def watch_processes(world: int) -> Iterator[None]:
    """Turn the failure of a process into the job's error; no process outlives the block.

    Raises:
        SkipError: a process raised one, or was killed.
        RuntimeError: a process raised any other error.
    """
    # PyTorch logs a warning for every process that it has to terminate.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    others = mp.active_children()
    try:
        yield
    except ProcessException as error:
        raise failure(error, world) from error
    finally:
        os.environ.pop("MASTER_PORT", None)  # Lightning would use it again, free or not
        for process in mp.active_children():
            if process not in others:
                process.kill()
                process.join()


def failure(error: ProcessException, world: int) -> Exception:
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
