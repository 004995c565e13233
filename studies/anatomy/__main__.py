"""``python -m studies.anatomy``: the tables and figures of studies/anatomy.md.

    python -m studies.anatomy outputs/evidence --out DIR        # train nothing
    python -m studies.anatomy outputs/evidence --out DIR --parts transfer
    python -m studies.anatomy outputs/evidence --out DIR --parts scarcity --draws 3 \
        --methods activation_gradient fisher paper magnitude --retune-rows 0 64 1024 99999
    python -m studies.anatomy                                   # figures from the stored tables

FOLDERS hold finished jobs that differ in task, seed and ratio alone. ablation: the score while
neurons go; overlap: of tasks, seeds and calibration sizes beyond chance; causal: one task's neurons
cut out of another's model; abroad: the scores of two sentiment tasks on each other's rows. transfer
and scarcity train, and continue the table that DIR has.
"""

import argparse
import logging
import sys
from pathlib import Path

import pandas as pd

from skip_exp.errors import SkipError
from skip_exp.utils import console
from studies.anatomy import measure, pictures, train
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
            path = asked.out / f"{part}.csv"
            if part in measure.MEASURES:
                settings = measure.Options(asked.ratio, asked.methods)
                table = pd.DataFrame(measure.MEASURES[part](opened, settings))
                table.to_csv(path, index=False, lineterminator="\n")
            else:
                options = train.Options(asked.ratio, asked.methods, asked.retune_rows, asked.draws)
                train.add_rows(train.TRAINED[part](opened, options), path)
    except SkipError as error:
        sys.exit(f"error: {error}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m studies.anatomy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = [*measure.MEASURES, *train.TRAINED]
    made.add_argument("folders", nargs="*", metavar="FOLDERS", help="none: draw the figures")
    made.add_argument("--out", type=Path, metavar="DIR", help="of the tables")
    made.add_argument("--parts", nargs="+", choices=parts, default=[*measure.MEASURES])
    made.add_argument("--ratio", type=float, default=0.9, help="the cut that leaves the skill")
    made.add_argument("--rows", type=int, default=500, help="that a score is of, at most")
    made.add_argument(
        "--methods",
        nargs="+",
        default=["activation_gradient"],
        metavar="METHOD",
        help="attributions of ablation and scarcity: names in conf/attribution, with changes after "
        "a colon such as paper:samples=256",
    )
    made.add_argument("--retune-rows", type=int, nargs="+", default=[1024], metavar="N")
    made.add_argument("--draws", type=int, default=1, help="random ones of scarcity")
    return made


if __name__ == "__main__":
    main()
