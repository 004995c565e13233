"""Show what the neurons of finished jobs do for their tasks: one page and CSV files.

Examples:

    skip-exp anatomy outputs/2026-11-28 --out outputs/anatomy
    skip-exp anatomy outputs --parts causal overlap --methods magnitude paper
    skip-exp anatomy outputs --wandb my-project      # the tables and the page as a W&B run

Parts: where the kept neurons lie; ablation curves before re-tuning; overlap of tasks, seeds,
methods and calibration sizes beyond chance; causal, one task's neurons cut out of another's model;
calibration; abroad, scores on other tasks with the same labels. Nothing is trained: the dense
models are read from the stage cache. Where DIR has a transfer.csv or scarcity.csv (the sweeps of
studies/), the page shows them, too.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from skip_exp.api.anatomy import ROWS, anatomy
from skip_exp.commands.line import one_line_errors, parser
from skip_exp.errors import SkipError, first_line
from skip_exp.neurons.measure import PARTS
from skip_exp.report.anatomy import page
from skip_exp.report.tables import save
from skip_exp.utils import console

SWEPT = {  # tables that need training -> their columns
    "transfer": ("task", "backbone", "seed", "kept", "is_random", "ratio", "rows", "score"),
    "scarcity": ("task", "backbone", "seed", "by", "ratio", "rows", "score"),
}


@one_line_errors(1)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where nothing can be measured or the files cannot be written."""
    line = parser("anatomy", __doc__)
    line.add_argument("folders", nargs="*", metavar="FOLDER", default=["outputs"])
    line.add_argument("--out", type=Path, default=Path("outputs/anatomy"), metavar="DIR")
    line.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    line.add_argument("--ratio", type=float, default=0.9, help="whose cut's neurons are the skill")
    line.add_argument("--methods", nargs="*", default=["magnitude"], metavar="ATTRIBUTION")
    line.add_argument("--rows", type=int, default=ROWS, help="that a score is of, at most")
    line.add_argument("--wandb", metavar="PROJECT", help="log tables and page as a run, too")
    options = line.parse_args(arguments)
    swept = read_swept(options.out)
    console.quiet_lightning()
    with console.shown():
        tables = anatomy(
            options.folders,
            ratio=options.ratio,
            methods=options.methods,
            parts=options.parts,
            rows=options.rows,
        )
    texts = {
        options.out / f"{name}.csv": table.to_csv(index=False, lineterminator="\n")
        for name, table in tables.items()
        if len(table)
    }
    save(texts)
    html = options.out / "anatomy.html"
    save({html: page({**tables, **swept}, options.ratio, options.folders)})
    print(f"written: {html} and {', '.join(path.name for path in texts)}")
    if options.wandb:
        # Importing wandb takes a third of a second.
        from skip_exp.logger.anatomy import log_tables

        log_tables(options.wandb, tables, html)
    return 0


def read_swept(out: Path) -> dict[str, pd.DataFrame]:
    """The tables that need training, where ``out`` has them. Raises SkipError."""
    found = {}
    for name, columns in SWEPT.items():
        if (file := out / f"{name}.csv").is_file():
            try:
                table = pd.read_csv(file)
            except (OSError, ValueError) as error:
                raise SkipError(f"{file}: cannot be read: {first_line(error)}") from error
            if missing := set(columns) - set(table):
                raise SkipError(f"{file}: has no column {', '.join(sorted(missing))}")
            found[name] = table
    return found
