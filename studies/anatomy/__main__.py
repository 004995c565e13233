"""``python -m studies.anatomy``: the tables and the picture of studies/anatomy.md.

    python -m studies.anatomy outputs/evidence --out DIR
    python -m studies.anatomy                                   # the picture, from the stored table

FOLDERS hold finished jobs that differ in task, seed and ratio alone. ablation: the score while
neurons go; overlap: of tasks, seeds and calibration sizes beyond chance; causal: one task's neurons
cut out of another's model.
"""

import argparse
import logging
import sys
from pathlib import Path

import pandas as pd

from skip_exp.errors import SkipError
from skip_exp.utils import console
from studies.anatomy import measure, pictures
from studies.anatomy.jobs import open_subjects


def main() -> None:
    asked = parser().parse_args()
    if not asked.folders:
        pictures.draw()
        return
    if asked.out is None:
        sys.exit("error: --out DIR: name the folder of the tables")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    console.quiet_lightning()
    asked.out.mkdir(parents=True, exist_ok=True)
    try:
        opened = open_subjects(asked.folders, asked.rows)
        for part in asked.parts:
            settings = measure.Options(asked.ratio, asked.methods)
            table = pd.DataFrame(measure.MEASURES[part](opened, settings))
            table.to_csv(asked.out / f"{part}.csv", index=False, lineterminator="\n")
    except SkipError as error:
        sys.exit(f"error: {error}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m studies.anatomy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("folders", nargs="*", metavar="FOLDERS", help="none: draw the picture")
    made.add_argument("--out", type=Path, metavar="DIR", help="of the tables")
    made.add_argument("--parts", nargs="+", choices=measure.MEASURES, default=[*measure.MEASURES])
    made.add_argument("--ratio", type=float, default=0.9, help="the cut that leaves the skill")
    made.add_argument("--rows", type=int, default=500, help="that a score is of, at most")
    made.add_argument(
        "--methods",
        nargs="+",
        default=["activation_gradient"],
        metavar="METHOD",
        help="attributions of ablation: names in conf/attribution, with changes after a colon such "
        "as paper:samples=256",
    )
    return made


if __name__ == "__main__":
    main()
