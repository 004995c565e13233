"""A parallel launcher's worker takes its threads and one GPU, before torch is imported.

joblib's workers inherit their share of the cores; Slurm assigns cores and GPUs itself.
"""

import logging
import os
import warnings
from collections.abc import Sequence

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from skip_exp.config.schema import TrainerConfig, register_resolver
from skip_exp.utils.files import machine_lock
from skip_exp.utils.machine import list_gpus

log = logging.getLogger(__name__)

# Launchers whose workers run side by side on one machine and all see its GPUs.
SIDE_BY_SIDE = ("JoblibLauncher", "LocalLauncher")

_held: list[FileLock] = []  # released by the system when the process ends, however it ends


def half_the_cores() -> int:
    """Half of the cores this process may use, at least 2: the joblib launcher's workers."""
    from joblib import cpu_count  # knows affinity and container limits; comes with the launcher

    cores: int = cpu_count()
    return max(2, cores // 2)


# At import, because a worker composes its job's configuration before it runs a job.
register_resolver("half_the_cores", half_the_cores, replace=True)
# Hydra merges the plugins' entries of the same name into conf/hydra/launcher, with a warning.
warnings.filterwarnings("ignore", message=r"\n'hydra/launcher/\w+' is validated against")


def settle(trainer: TrainerConfig) -> None:
    """Take this process's share of the machine; the user's OMP_NUM_THREADS and GPUs are kept."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return
    if cpus := hydra.launcher.get("cpus_per_task"):  # submitit; Slurm does not always bind cores
        os.environ.setdefault("OMP_NUM_THREADS", str(cpus))
    if trainer.accelerator != "cpu" and hydra.launcher._target_.endswith(SIDE_BY_SIDE):
        claim_gpu(visible_gpus(), hydra.job.num)


def visible_gpus() -> list[str]:
    """CUDA's names of the GPUs that this process may use, found without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index, _ in enumerate(list_gpus())]


def claim_gpu(gpus: Sequence[str], job: int) -> None:
    """Show this process one of several GPUs only: from the job's turn on, the first free one.

    A worker that runs several jobs keeps its GPU: after the first job it sees no other.
    """
    if len(gpus) < 2:
        return
    start = job % len(gpus)
    free = next((gpu for gpu in [*gpus[start:], *gpus[:start]] if _lock(gpu)), None)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu = free or gpus[start]
    if free is None:
        log.warning("GPU %s is shared: other workers hold all %d GPUs", gpu, len(gpus))


def _lock(gpu: str) -> bool:
    """Hold a GPU until this process ends; return whether no other worker holds it."""
    try:
        lock = machine_lock(f"gpu-{gpu.replace('/', '-')}")
        lock.acquire(blocking=False)
    except (OSError, RuntimeError):  # filelock.Timeout, or no folder for locks
        return False
    _held.append(lock)
    return True
