"""Tasks: description, sources, tokenisation and batches."""

from skip_exp.data.encode import Batch, EncodedTask, Row, collate, encode
from skip_exp.data.metrics import build_metrics
from skip_exp.data.module import TextDataModule
from skip_exp.data.rows import Split
from skip_exp.data.sources import RawTask, load_task
from skip_exp.data.spec import TaskSpec, task_spec

__all__ = [
    "Batch",
    "EncodedTask",
    "RawTask",
    "Row",
    "Split",
    "TaskSpec",
    "TextDataModule",
    "build_metrics",
    "collate",
    "encode",
    "load_task",
    "task_spec",
]
