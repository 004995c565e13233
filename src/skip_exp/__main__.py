"""``skip-exp`` and ``python -m skip_exp``: the command line.

``+task=TASK ...`` runs a job or a sweep, composed by Hydra. A first word in :data:`COMMANDS` runs
that command. Exit codes of jobs: 0 all done; 1 a job failed; 2 refused before any job; 130 Ctrl-C
or SIGTERM.
"""

import os
import re
import signal
import sys
from argparse import ArgumentError
from collections.abc import Sequence

import hydra
from hydra.errors import HydraException
from hydra.main import get_args_parser  # type: ignore[attr-defined]

from skip_exp import __version__
from skip_exp.config import schema as config
from skip_exp.config.compose import explain, quote_separator
from skip_exp.errors import did_you_mean
from skip_exp.sweep import finish, run
from skip_exp.utils import console

# For hydra.main: 1.4 asks what a configuration may call; conf/config.yaml names the callback.
MAIN = config.VERSION_BASE or {"execution_whitelist": "skip_exp.sweep.check.Started"}
COMMANDS = {  # module of skip_exp.commands, imported when it is asked for, and function
    "train": "train.train",
    "compress": "train.compress",
    "predict": "answer.predict",
    "evaluate": "answer.evaluate",
    "export": "export.main",
    "report": "report.main",
    "table2": "table2.main",
    "compare": "compare.main",
    "dashboard": "dashboard.main",
}


def main() -> int:
    """Run the command line in ``sys.argv`` and return the exit code.

    Raises:
        SystemExit: with the exit code, when the command ends early (a command's help, a refusal).
        Exception: any error outside the jobs, if HYDRA_FULL_ERROR=1 is set.
    """
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # custom modules; `python -m` does so by itself
    # SIGTERM acts as Ctrl-C. Lightning's own handler would ignore it between fits.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    match sys.argv[1:]:
        case ["--version"]:
            print(f"skip_exp {__version__}")
            return 0
        case [word, *arguments] if word in COMMANDS:
            return run_command(word, arguments)
        case [word, *_] if re.fullmatch(r"[A-Za-z][\w-]*", word):  # never an override
            hint = did_you_mean(word, COMMANDS)
            return refuse(f"{word}: no such command{hint}; see skip-exp --help")
        case arguments:
            return run_jobs(arguments)


def refuse(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 2


def run_command(word: str, arguments: Sequence[str]) -> int:
    try:
        module, _, function = COMMANDS[word].partition(".")
        command = getattr(console.import_slow(f"skip_exp.commands.{module}"), function)
        code: int = command(arguments)
    except KeyboardInterrupt:
        print("\nerror: interrupted", file=sys.stderr)
        return 130
    return code


def run_jobs(arguments: Sequence[str]) -> int:
    """Run the job or the sweep that Hydra composes of ``arguments``; return the exit code."""
    try:
        sys.argv[1:] = quote_separator(with_overrides_first(arguments))
    except ArgumentError as error:
        return refuse(f"{error} (see --help)")
    config.register()
    wants_tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Makes Hydra raise its errors instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    start = hydra.main(config_path=str(config.conf_dir()), config_name="config", **MAIN)(
        run.run_job
    )
    try:
        start()
    except KeyboardInterrupt:
        folder = finish.started_folder()
        where = f"; results so far: {folder}" if folder else ""
        print(f"\nerror: interrupted{where}", file=sys.stderr)
        return 130
    except Exception as error:
        if wants_tracebacks:
            raise
        reason = explain(error)
        # Else the machine is at fault, such as a full disk; some of Hydra's errors are an OSError.
        is_refusal = isinstance(error, HydraException) or not isinstance(error, OSError)
        if finish.started_folder() is None and is_refusal:
            return refuse(reason)
        print(f"error: {reason}", file=sys.stderr)
        finish.finish()
        return 1
    return 0 if finish.finish() else 1


def with_overrides_first(arguments: Sequence[str]) -> list[str]:
    """Move the overrides before the flags: Hydra refuses ``+task=rte -m seed=1,2`` as it stands.

    Raises:
        ArgumentError: an unknown flag, or one without its value.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise ArgumentError(None, f"{unknown[0]}: no such flag")
    flags = list(arguments)
    for override in options.overrides:
        flags.remove(override)
    return list(options.overrides) + flags


if __name__ == "__main__":
    sys.exit(main())
