"""Label a table of any size with a skill on Spark.

pip install pyspark
skip-exp export outputs/.../skill small-onnx --format onnx
python examples/spark.py small-onnx rows.parquet labelled

``rows.parquet``, a file or a folder, has the task's text columns. ``labelled`` gets every row, in
the order of its file, with its label and probability. A row without a text has the reason in the
column ``error``. On a cluster use ``spark-submit``; all machines must see both folders.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf, struct

from skip_exp import OnnxSkill

ANSWER = "predicted string, probability double, error string"


def main(skill: str, rows: str, out: str) -> None:
    folder = Path(skill).absolute()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the first python3 on PATH
    table = SparkSession.builder.getOrCreate().read.parquet(str(Path(rows).absolute()))

    @pandas_udf(ANSWER)
    def label(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        loaded = OnnxSkill.load(folder, threads=1)  # once for all batches of a worker's task
        for batch in batches:
            yield loaded.annotate(batch)[["predicted", "probability", "error"]]

    labelled = table.withColumn("answer", label(struct("*"))).select("*", "answer.*")
    labelled.drop("answer").write.parquet(str(Path(out).absolute()))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(f"usage: python {sys.argv[0]} SKILL ROWS.parquet OUT")
    main(*sys.argv[1:])
