"""The tables and the page of an anatomy as a W&B run."""

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import wandb

from skip_exp.errors import SkipError, first_line
from skip_exp.logger import runs


def log_tables(project: str, tables: Mapping[str, pd.DataFrame], page: Path) -> None:
    """Log each table as ``anatomy/NAME``, and the page as ``anatomy/page``.

    The run is offline where there is no key; W&B's folder is then beside the page.

    Raises:
        SkipError: W&B refuses.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    plain = {name: t.astype(object).where(t.notna(), None) for name, t in tables.items() if len(t)}
    found = {f"anatomy/{name}": wandb.Table(dataframe=t) for name, t in plain.items()}
    settings = wandb.Settings(silent=True, console="off", init_timeout=runs.WAIT)
    try:
        with wandb.init(
            project=project,
            name=page.parent.name,
            job_type="anatomy",
            dir=page.parent,
            mode=runs.mode_of("auto"),  # type: ignore[arg-type]
            settings=settings,
        ) as run:
            run.log({**found, "anatomy/page": wandb.Html(str(page))})
    except wandb.errors.Error as error:
        raise SkipError(f"--wandb {project}: W&B refused: {first_line(error)}") from error
