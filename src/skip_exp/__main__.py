"""``skip-exp`` and ``python -m skip_exp``: the command line.

``+task=TASK ...`` runs a job or a sweep, composed by Hydra. A first word in :data:`COMMANDS` runs
that command. Exit codes of jobs: 0 all done; 1 a job failed; 2 refused before any job; 130 Ctrl-C
or SIGTERM.
"""

import os
import re
import signal
import sys
from collections.abc import Sequence

import hydra

from skip_exp import usage
from skip_exp.config import refusals
from skip_exp.config import schema as config
from skip_exp.errors import did_you_mean
from skip_exp.sweep import ending, entry, flags
from skip_exp.sweep.state import STARTED
from skip_exp.utils import imports

# Each is a module of skip_exp.commands with a main(arguments), imported when it is asked for.
COMMANDS = {
    "train": "Train a small classifier on a file of your own.",
    "compress": "Cut a classifier that is fine-tuned already.",
    "predict": "Classify texts with a skill.",
    "evaluate": "Score a skill on a file with labels.",
    "export": "Write a skill as a model that needs no backbone.",
    "benchmark": "Time finished jobs again, on a quiet machine.",
    "report": "Write tables, figures and a page from result files.",
    "table2": "Run or resume the sweep of the paper's Table 2, and write the table.",
    "compare": "Compare two values of a setting by paired jobs, with an interval.",
    "cache": "Show the size of the stage cache, or remove unused entries.",
    "dashboard": "Create saved W&B workspaces.",
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
        case [word, *arguments] if word in COMMANDS:
            return _command(word, arguments)
        case ["-sc", query] if query.startswith("query=") and _complete():
            return 0
        case [word, *_] if re.fullmatch(r"[A-Za-z][\w-]*", word):  # never an override
            hint = did_you_mean(word, COMMANDS)
            print(f"error: {word}: no such command{hint}; see skip-exp --help", file=sys.stderr)
            return 2
        case arguments:
            return jobs(arguments)


def _complete() -> bool:
    """Print the commands that may end the shell's line; return whether only a command's files may.

    Hydra completes groups, choices and keys; the shell completes files.
    """
    line = os.environ.get("COMP_LINE", "")
    words = line.split()[1:] + ([""] if line[-1:].isspace() else [])
    if len(words) < 2:
        print("\n".join(word for word in COMMANDS if word.startswith("".join(words))))
        return False
    return words[0] in COMMANDS


def _command(word: str, arguments: Sequence[str]) -> int:
    try:
        code: int = imports.load(f"skip_exp.commands.{word}").main(arguments)
    except KeyboardInterrupt:
        print("\nerror: interrupted", file=sys.stderr)
        return 130
    return code


def jobs(arguments: Sequence[str]) -> int:
    given = flags.parse(arguments)
    if given.help:
        print(usage.text(COMMANDS, given.config_dir))
        return 0
    sys.argv[1:] = given.arguments
    config.register()
    wants_tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    if wants_tracebacks:
        os.environ[entry.TRACEBACKS] = "1"
    # Makes Hydra raise its errors instead of printing them over several lines.
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
