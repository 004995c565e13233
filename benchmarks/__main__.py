"""Measure skip_exp side by side with PEFT and Captum.

Example:

    python -m benchmarks --quick --only forward

Each comparison runs in its own process, one after the other. The tables are written after each of
them, so an interrupted run keeps its earlier tables. Real rows are read from the folder in
SKIP_EXP_DATA; without it rows are generated.
"""

import argparse
import importlib
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.tables import Options, Report, from_json, table, to_json, write
from skip_exp.errors import SkipError
from skip_exp.utils.machine import cores, list_versions, processor

# In order of running; each is a module of this package with TITLE, ABOUT and measure(options).
COMPARISONS = ("forward", "training", "attribution")
TIMEOUT = 1800.0  # seconds of one comparison
GRACE = 5.0  # seconds for an interrupted comparison to remove its files
# Threads that OpenMP binds to cores take the main thread with them, and every process that it
# starts afterwards inherits its one core.
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
PACKAGES = ("skip_exp", "torch", "transformers", "lightning", "peft", "captum")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, 1 where a comparison failed, 2 where the command is refused."""
    asked = parser().parse_args(arguments)
    # SIGTERM, too, ends the comparison at work.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = Options(asked.quick, asked.out)
    try:
        if asked.rows:  # the process of one comparison
            return measure(asked.only[0], options, asked.rows)
        return run_all([name for name in COMPARISONS if name in asked.only], options)
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nerror: interrupted; measured so far: {options.out}/bench.md", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="smoke run on small inputs")
    made.add_argument("--only", nargs="+", choices=COMPARISONS, default=COMPARISONS)
    made.add_argument("--out", type=Path, default=Path("outputs/bench"), metavar="DIR")
    made.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    return made


def run_all(names: Sequence[str], options: Options) -> int:
    """Run the comparisons, with the tables written and shown after each; the exit code."""
    options.out.mkdir(parents=True, exist_ok=True)
    unbind()
    here = machine()
    print(f"{here['device']}, {here['threads']} threads", flush=True)
    reports: list[Report] = []
    for name in names:
        print(f"{name} ...", flush=True)
        report = run(name, options)
        reports.append(report)
        write(options.out, here, options.quick, reports)
        if report.error is not None:
            print(f"error: {name}: {report.error}", file=sys.stderr, flush=True)
        else:
            print(table(report.rows, shutil.get_terminal_size((200, 24)).columns))
        print(f"{report.seconds:.0f} s", flush=True)
    total = sum(report.seconds for report in reports)
    print(f"{total:.0f} s; written: {options.out}/bench.md, .json")
    return 1 if any(report.error is not None for report in reports) else 0


def run(name: str, options: Options, timeout: float = TIMEOUT) -> Report:
    """Run one comparison in its own process; whatever goes wrong there is the report's error."""
    module, start = importlib.import_module(f"benchmarks.{name}"), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        error = wait(command(name, options, rows), options.out / f"{name}.log", timeout)
        done = () if error else from_json(json.loads(rows.read_text()))
    return Report(name, module.TITLE, module.ABOUT, done, error, time.perf_counter() - start)


def command(name: str, options: Options, rows: Path) -> list[str]:
    """The process of one comparison: this program once more, to write its rows to a file."""
    arguments = ["--only", name, "--out", str(options.out)]
    arguments += ["--quick"] if options.quick else []
    return [sys.executable, "-m", "benchmarks", *arguments, "--rows", str(rows)]


def wait(argv: Sequence[str], log: Path, timeout: float) -> str | None:
    """Run a command, its output in ``log``; why it failed, or None. Nothing it started goes on."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # Nothing here is on a hub; what is written is seen at once.
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            argv, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            return f"not done after {timeout:.0f} s (log: {log})"
        finally:
            end(process)
    if code == 0:
        return None
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("error: ") if lines else "no output"
    return f"{last} (exit code {code}, log: {log})"


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and the jobs that it started, which share its group."""
    with suppress(ProcessLookupError):  # all of them are gone
        try:
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C would
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def measure(name: str, options: Options, rows: Path) -> int:
    """Make one comparison in this process. Raises SkipError where it cannot be made here."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    measured = importlib.import_module(f"benchmarks.{name}").measure(options)
    rows.write_text(json.dumps(to_json(measured)))
    return 0


def unbind() -> None:
    """Leave all cores to the processes of the comparisons. Before torch is imported.

    oneDNN's kernels are kept for all models that take turns, as for each in a process of its own.
    """
    for name in BINDING:
        os.environ.pop(name, None)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")


def machine() -> dict[str, Any]:
    """Device, threads and library versions of every comparison."""
    import torch  # here: after `unbind`, and `--help` needs none of it

    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processor": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | list_versions(PACKAGES),
    }


if __name__ == "__main__":
    sys.exit(main())
