"""The process of one comparison: measure, write the rows. Started by the runner, not by hand."""

import argparse
import importlib
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from skip_exp.bench.row import Options, to_plain
from skip_exp.errors import SkipError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 with one line where the comparison cannot be made here."""
    parser = argparse.ArgumentParser(prog="python -m skip_exp.bench.worker", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--skill", type=Path, action="append", default=[])
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    options = Options(given.quick, given.out, given.work, tuple(given.skill))
    try:
        rows = importlib.import_module(f"skip_exp.bench.{given.name}").measure(options)
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    given.to.write_text(json.dumps([to_plain(row) for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
