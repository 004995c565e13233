"""A word-level tokenizer with BERT's layout, and small tasks written to disk."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import DataConfig, to_object
from skip_exp.data.batches import Row
from skip_exp.data.read import Table
from skip_exp.data.rows import Rows, to_rows
from skip_exp.data.sources import load_rows

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e", "f"]
Cells = list[dict[str, Any]]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def spec(**changes: Any) -> TaskConfig:
    """A task of one text and the labels no and yes, changed where asked."""
    base = {"name": "toy", "text": ["s"], "labels": ["no", "yes"], "metrics": ["accuracy"]}
    return to_object(base | changes, TaskConfig)


def rows(n: int) -> Cells:
    return [{"s": f"text {i}", "label": i % 2} for i in range(n)]


def table(**columns: list[Any]) -> Table:
    """A table from somewhere."""
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return Table("here", records)


def build(given: Table, task: TaskConfig) -> list[Row]:
    """The rows of a table as train split."""
    return [*to_rows(given, task, "train").values()]


def load(
    task: TaskConfig,
    source: str = "local",
    dir: str | None = None,
    seed: int = 1,
    **options: Any,
) -> Rows:
    return load_rows(task, DataConfig(source=source, dir=dir, **options), seed)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Write splits as JSON lines under <tmp>/toy; returns the data folder."""

    def write(**splits: Cells) -> Path:
        (tmp_path / "toy").mkdir()
        for name, split in splits.items():
            text = "".join(json.dumps(row) + "\n" for row in split)
            (tmp_path / "toy" / f"{name}.jsonl").write_text(text)
        return tmp_path

    return write


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real tasks, where there is one."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    path = Path(os.environ.get("SKIP_EXP_DATA") or beside)
    if not path.is_dir():
        pytest.skip("no real data: set SKIP_EXP_DATA")
    return path
