"""Every comparison in a process of its own, one after the other."""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from skip_exp.bench.row import Options, Report, Row, from_plain
from skip_exp.errors import SkipError

# In order of running; each is a module of this package with TITLE, ABOUT and measure(options).
COMPARISONS = (
    *("forward", "prefix", "served", "training", "attribution", "sweep", "handling"),
    "growth",
)
TIMEOUT = 900.0  # seconds of one comparison
# Threads that OpenMP binds to cores take the main thread with them, and every process that it
# starts afterwards inherits its one core.
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


def unbind() -> None:
    """Leave all cores to the processes of the comparisons. Before torch is imported."""
    for name in BINDING:
        os.environ.pop(name, None)


def run(name: str, options: Options, timeout: float = TIMEOUT) -> Report:
    """Run one comparison in its own process; whatever goes wrong there is the report's error."""
    module = importlib.import_module(f"skip_exp.bench.{name}")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        error = _start(command(name, options, file), options.work / f"{name}.log", timeout)
        rows = () if error else read(file)
    return Report(name, module.TITLE, module.ABOUT, rows, error, time.perf_counter() - start)


def command(name: str, options: Options, file: Path) -> list[str]:
    """The process of one comparison; it writes its rows to ``file``."""
    given = [name, "--to", str(file), "--out", str(options.out), "--work", str(options.work)]
    given += ["--quick"] if options.quick else []
    given += [part for skill in options.skills for part in ("--skill", str(skill))]
    return [sys.executable, "-m", "skip_exp.bench.worker", *given]


def _start(command: list[str], log: Path, timeout: float) -> str | None:
    """Run ``command``, its output in ``log``; why it failed, or None."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=_quiet(), start_new_session=True
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            return f"not done after {timeout:.0f} s (log: {log})"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)  # with the jobs that it started
                process.wait()
    if code == 0:
        return None
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("error: ") if lines else "no output"
    return f"{last} (exit code {code}, log: {log})"


def _quiet() -> dict[str, str]:
    """Nothing here is on a hub; what a worker writes is seen at once."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def read(file: Path) -> tuple[Row, ...]:
    """The rows that a worker wrote."""
    return tuple(from_plain(each) for each in json.loads(file.read_text()))


def chosen(only: list[str]) -> tuple[str, ...]:
    """The comparisons named, in the order of running; all of them where none is.

    Raises:
        SkipError: a name that is none of them.
    """
    for name in only:
        if name not in COMPARISONS:
            raise SkipError(f"--only {name}: must be one of {', '.join(COMPARISONS)}")
    return tuple(name for name in COMPARISONS if not only or name in only)


def machine() -> dict[str, Any]:
    """Device, threads and library versions of every comparison."""
    import torch

    from skip_exp.bench import libraries

    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processor": libraries.processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": libraries.versions(),
    }
