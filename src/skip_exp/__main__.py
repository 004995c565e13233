"""``python -m skip_exp +task=TASK ...``: the command line.

Exit codes: 0 all jobs done; 1 a job failed; 2 the command was refused before any job; 130 Ctrl-C
or SIGTERM.
"""

import os
import signal
import sys

import hydra
from hydra._internal.utils import get_args_parser

from skip_exp.config import refusals
from skip_exp.config import schema as config
from skip_exp.sweep import entry as sweep


def main() -> int:
    config.register()
    # As Ctrl-C: Lightning alone would note the signal and, between fits, forget it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wants_tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    if wants_tracebacks:
        os.environ[sweep.TRACEBACKS] = "1"
    # With this set Hydra raises what it would otherwise print over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv[1:] = _side_by_side(sys.argv[1:])
    start = hydra.main(
        version_base="1.3", config_path=str(config.conf_dir()), config_name="config"
    )(sweep.job)
    try:
        start()
    except KeyboardInterrupt:
        where = f"; results so far: {sweep.Started.folder}" if sweep.Started.folder else ""
        print(f"\nerror: interrupted{where}", file=sys.stderr)
        return 130
    except Exception as error:
        if wants_tracebacks:
            raise
        print(f"error: {refusals.explain(error)}", file=sys.stderr)
        if refusals.is_composition_error(error):
            return 2
        sweep.finish()
        return 1
    return 0 if sweep.finish() else 1


def _side_by_side(args: list[str]) -> list[str]:
    """Overrides first, then flags: Hydra's parser knows no ``+task=rte -m seed=1,2``."""
    known, late = get_args_parser().parse_known_args(args)
    overrides = [*known.overrides, *late]
    return [*overrides, *(arg for arg in args if arg not in overrides)]


if __name__ == "__main__":
    sys.exit(main())
