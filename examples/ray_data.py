"""Label a table of any size with a skill on Ray Data.

pip install 'ray[data]'
skip-exp export outputs/.../skill small-onnx --format onnx
python examples/ray_data.py small-onnx rows.parquet labelled

``rows.parquet``, a file or a folder, has the task's text columns. ``labelled`` gets every row, in
order, with its label and probability. A row without a text has the reason in the column ``error``.
All machines of a Ray cluster must see both folders at the same paths.
"""

import sys
from pathlib import Path

import pandas as pd
import ray

from skip_exp import OnnxSkill

BLOCK = 5000  # rows in one piece of work, and in one file of the answers


class Labeller:
    """An actor: it reads the skill once, and labels one batch after the other on one core."""

    def __init__(self, skill: str) -> None:
        self.skill = OnnxSkill.load(skill, threads=1)

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        return self.skill.annotate(rows)


def main(skill: str, rows: str, out: str) -> None:
    ray.init(ignore_reinit_error=True, include_dashboard=False)
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    cores = int(ray.cluster_resources()["CPU"])
    table = ray.data.read_parquet(str(Path(rows).absolute()))
    labelled = table.repartition(target_num_rows_per_block=BLOCK).map_batches(
        Labeller,
        fn_constructor_args=[str(Path(skill).absolute())],
        batch_format="pandas",
        batch_size=BLOCK,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=cores),
    )
    labelled.write_parquet(str(Path(out).absolute()))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(f"usage: python {sys.argv[0]} SKILL ROWS.parquet OUT")
    main(*sys.argv[1:])
