"""What a worker process of a parallel launcher may use of its machine: threads, and one GPU.

joblib's workers inherit their share of the cores, Slurm and Ray hand out cores and GPUs themselves.
The rest is done here, from :func:`skip_exp.sweep.entry.job`, before torch is imported.
"""

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from skip_exp.config.schema import TrainerConfig
from skip_exp.utils.files import machine_lock

log = logging.getLogger(__name__)

# Launchers whose workers run side by side on one machine and all see its GPUs.
SIDE_BY_SIDE = ("JoblibLauncher", "LocalLauncher")
DEVICES = Path("/dev")  # has a file nvidia<n> per GPU
FOLDER = "SKIP_EXP_FOLDER"  # set in conf/hydra/launcher/ray.yaml

_held: list[FileLock] = []  # released by the system when the process ends, however it ends


def half_the_cores() -> int:
    """Half of the cores this process may use, at least 2: the joblib launcher's workers."""
    from joblib import cpu_count  # knows affinity and container limits; comes with the launcher

    cores: int = cpu_count()
    return max(2, cores // 2)


# At import, because every worker composes its job's configuration before it runs any of our code.
OmegaConf.register_new_resolver("half_the_cores", half_the_cores, replace=True)
# The files of conf/hydra/launcher have the names of the plugins' own entries, whose further keys
# Hydra merges in, with a deprecation note each time. They are complete without these.
warnings.filterwarnings("ignore", message=r"\n'hydra/launcher/\w+' is validated against")


def enter_folder() -> None:
    """Work where the command was given; Ray's workers would work where Ray was started."""
    os.chdir(os.environ[FOLDER])


def settle(trainer: TrainerConfig) -> None:
    """Take this process's share of the machine; nothing to do outside a parallel launcher.

    Environment variables of the user's own (OMP_NUM_THREADS, CUDA_VISIBLE_DEVICES) are respected.
    """
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return
    if cpus := hydra.launcher.get("cpus_per_task"):  # submitit; Slurm does not always bind cores
        os.environ.setdefault("OMP_NUM_THREADS", str(cpus))
    wants_one = trainer.devices == 1 and trainer.accelerator != "cpu"
    if wants_one and hydra.launcher._target_.endswith(SIDE_BY_SIDE):
        claim_gpu(visible_gpus(), hydra.job.num)


def visible_gpus() -> list[str]:
    """CUDA's names of the GPUs that this process may use, found without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index, _ in enumerate(DEVICES.glob("nvidia[0-9]*"))]


def claim_gpu(gpus: Sequence[str], job: int) -> None:
    """Show this process one of several GPUs only: one that no other worker holds, if there is one.

    A worker that runs several jobs keeps its GPU: from the first one on it sees no other.
    """
    if len(gpus) < 2:
        return
    gpu, free = first_free(gpus, job, _take)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if not free:
        log.warning("GPU %s is shared: all %d are taken by other workers", gpu, len(gpus))


def first_free(gpus: Sequence[str], job: int, take: Callable[[str], bool]) -> tuple[str, bool]:
    """The first GPU that ``take`` gets, from the job's turn on, and True; else its turn, False."""
    start = job % len(gpus)
    turns = [*gpus[start:], *gpus[:start]]
    return next(((gpu, True) for gpu in turns if take(gpu)), (turns[0], False))


def _take(gpu: str) -> bool:
    lock = machine_lock(f"gpu-{gpu.replace('/', '-')}")
    try:
        lock.acquire(blocking=False)
    except OSError:  # another worker holds it (filelock.Timeout)
        return False
    _held.append(lock)
    return True
