"""The machine and what runs on it: processor, load, memory, commit."""

import ctypes
import os
import platform
import subprocess
import time
from functools import cache, lru_cache
from pathlib import Path

import psutil

BUSY = 0.25  # cores that other processes may take from a measurement before it is contended
# What tells processors apart that have one name, as guests of a cloud do: lines of /proc/cpuinfo.
CPU_LINES = (
    "cpu family", "model", "stepping", "flags",
    "CPU implementer", "CPU part", "CPU variant", "Features",  # of an ARM
)  # fmt: skip
IDLE = ("idle", "iowait", "guest", "guest_nice")  # a guest's counts as user and nice, too
# Arguments of glibc's mallopt: what may stay free at the end of the heap, and from which size on a
# block is the system's own. Larger values are refused.
TRIM_THRESHOLD = -1
MMAP_THRESHOLD = -3
KEPT_FREE = 2**31 - 1  # bytes
LARGEST = 32 * 2**20
MALLOC_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@lru_cache
def git_commit() -> str | None:
    """Commit of the checkout this code runs from (``-dirty`` where edited); None when installed."""
    folder = Path(__file__).resolve().parent
    if "site-packages" in folder.parts:  # a repository around it would be somebody else's
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def cores() -> int | None:
    """Cores that this process may use: torch starts as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def free_cores(threads: int) -> int:
    """Whole cores of this process that so many threads leave free; twins count as one."""
    logical = psutil.cpu_count() or 1
    whole = psutil.cpu_count(logical=False) or 0
    return max(0, (cores() or 1) * whole // logical - threads)


def processor() -> str:
    """The processor's name, if the system tells it."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def list_gpus() -> list[str]:
    """Device files of NVIDIA's GPUs, found without a library of CUDA's."""
    return sorted(map(str, Path("/dev").glob("nvidia[0-9]*")))


def multiplies_bf16() -> bool:
    """Whether this processor multiplies bf16 faster than fp32.

    AMX does, and AVX512-BF16 on AMD. Intel's AVX512-BF16 alone takes twice as long as fp32
    (studies/speed.md).
    """
    flags = _cpuinfo().get("flags", "").split()
    return "amx_bf16" in flags or ("avx512_bf16" in flags and "Intel" not in processor())


def processor_lines() -> list[str]:
    """What tells this processor from others of its name."""
    info = _cpuinfo()
    return [info.get(name, "") for name in CPU_LINES]


def _cpuinfo() -> dict[str, str]:
    """/proc/cpuinfo of the first core; empty where there is none."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    info: dict[str, str] = {}
    for line in first.splitlines():
        name, _, value = line.partition(":")
        info[name.strip()] = value.strip()
    return info


class Load:
    """How many of the cores that this process may use others have kept busy since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.busy, self.used = self._seconds()

    @staticmethod
    def _seconds() -> tuple[float, float]:
        """CPU seconds of all processes, and of this one with the commands it waited for."""
        times = psutil.cpu_times(percpu=True)
        ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {len(times)}
        if max(ours) < len(times):  # else these may be ours alone, as in some containers
            times = [times[core] for core in ours]
        busy = 0.0
        for times_of_core in times:
            for name, seconds in times_of_core._asdict().items():
                if name not in IDLE:
                    busy += seconds
        return busy, sum(os.times()[:4])

    def others(self) -> float:
        """Cores in use by other processes, on average."""
        busy, used = self._seconds()
        others = (busy - self.busy) - (used - self.used)
        return max(0.0, others) / (time.perf_counter() - self.start)


@cache
def keep_freed() -> None:
    """Have glibc keep freed memory, once per process; settings of the environment come first.

    By default it returns a layer's tensors to the system and requests them again: on a CPU, page
    faults took a quarter of a pass at 90 % pruned, a third at 95 % (studies/speed.md). The
    process keeps the memory of its peak. Without glibc nothing happens.
    """
    if os.name != "posix" or any(name in os.environ for name in MALLOC_VARIABLES):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(TRIM_THRESHOLD, KEPT_FREE)
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
