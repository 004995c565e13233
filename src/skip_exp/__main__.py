"""``skip-exp`` and ``python -m skip_exp``: the command line.

``+task=TASK ...`` is a job or a sweep, which Hydra composes. A first word of :data:`COMMANDS` runs
that command. Exit codes of jobs: 0 all done; 1 a job failed; 2 the command was refused before any
job; 130 Ctrl-C or SIGTERM.
"""

import os
import signal
import sys
from collections.abc import Sequence

import hydra

from skip_exp.config import refusals
from skip_exp.config import schema as config
from skip_exp.sweep import ending, entry, flags
from skip_exp.sweep.state import STARTED
from skip_exp.utils import imports

# Each module has a main(arguments). They are imported on demand: some of them bring in torch.
COMMANDS = {
    "predict": "skip_exp.commands.predict",
    "export": "skip_exp.commands.export",
    "benchmark": "skip_exp.commands.benchmark",
    "report": "skip_exp.commands.report",
    "table2": "skip_exp.commands.table2",
    "compare": "skip_exp.commands.compare",
    "cache": "skip_exp.commands.cache",
    "dashboard": "skip_exp.commands.dashboard",
}


def main() -> int:
    """Do what ``sys.argv`` asks for; returns the exit code.

    Raises:
        SystemExit: with the exit code, where the command ends early (``--help``, a refusal).
        Exception: whatever went wrong outside the jobs, where HYDRA_FULL_ERROR=1 asks for it.
    """
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # custom modules; `python -m` does so by itself
    match sys.argv[1:]:
        case [word, *arguments] if word in COMMANDS:
            return _command(word, arguments)
        case ["-sc", query] if query.startswith("query=") and _complete():
            return 0
        case arguments:
            return _jobs(arguments)


def _complete() -> bool:
    """Tell the shell which commands may stand at the end of its line; whether nothing else may.

    Hydra knows groups, choices and keys. A command takes files: the shell has them itself.
    """
    line = os.environ.get("COMP_LINE", "")
    words = line.split()[1:] + ([""] if line[-1:].isspace() else [])
    if len(words) < 2:
        print("\n".join(word for word in COMMANDS if word.startswith("".join(words))))
        return False
    return words[0] in COMMANDS


def _command(word: str, arguments: Sequence[str]) -> int:
    code: int = imports.load(COMMANDS[word]).main(arguments)
    return code


def _jobs(arguments: Sequence[str]) -> int:
    sys.argv[1:] = flags.overrides_first(arguments)
    config.register()
    # As Ctrl-C: Lightning alone would note the signal and, between fits, forget it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wants_tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    if wants_tracebacks:
        os.environ[entry.TRACEBACKS] = "1"
    # With this set Hydra raises what it would otherwise print over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    start = hydra.main(
        version_base="1.3", config_path=str(config.conf_dir()), config_name="config"
    )(entry.job)
    try:
        start()
    except KeyboardInterrupt:
        where = f"; results so far: {STARTED.folder}" if STARTED.folder else ""
        print(f"\nerror: interrupted{where}", file=sys.stderr)
        return 130
    except Exception as error:
        if wants_tracebacks:
            raise
        print(f"error: {refusals.explain(error)}", file=sys.stderr)
        if STARTED.folder is None and refusals.is_refusal(error):
            return 2
        ending.finish()
        return 1
    return 0 if ending.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
