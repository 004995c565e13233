"""The examples for Ray Data and Spark, run as a user does: 20,000 rows in, all of them out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from skip_exp import OnnxSkill, Skill
from tests.helpers.saved import save_tiny_skill
from tests.helpers.written import ROOT

ROWS = 20_000
BAD = (0, 7, 12_345)  # rows without a text


@pytest.fixture(scope="module")
def folder(onnx_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny skill's ONNX export, and the rows, which have a label of their own."""
    place = tmp_path_factory.mktemp("engines")
    skill = Skill.load(save_tiny_skill(place / "skill").folder)
    skill.export(place / "onnx", "onnx")
    words = ("the film is warm", "a dull plot", "very funny and long", "bad")
    texts: list[str | None] = [f"{words[i % 4]} w{i % 30}" for i in range(ROWS)]
    for number in BAD:
        texts[number] = None
    rows = pd.DataFrame({"id": range(ROWS), skill.about.text[0]: texts, "label": "kept"})
    rows.to_parquet(place / "rows.parquet")
    return place


@pytest.mark.slow
@pytest.mark.parametrize(("example", "package"), [("ray_data", "ray.data"), ("spark", "pyspark")])
def test_every_row_comes_back_in_order(folder: Path, example: str, package: str) -> None:
    pytest.importorskip(package)
    if example == "spark" and not shutil.which("java"):
        pytest.skip("Spark needs a Java runtime")
    command = [
        sys.executable,
        str(ROOT / f"examples/{example}.py"),
        "onnx",
        "rows.parquet",
        example,
    ]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parts = sorted((folder / example).glob("*.parquet"))
    found = pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)
    given = pd.read_parquet(folder / "rows.parquet")
    assert [*found.columns] == [*given.columns, "predicted", "probability", "error"]
    assert found[[*given.columns]].isna().equals(given.isna())  # None, NaN or NA
    for column in given:
        assert [*found[column].dropna()] == [*given[column].dropna()]
    assert tuple(found.index[found["error"].notna()]) == BAD
    assert found["predicted"].isna().sum() == found["probability"].isna().sum() == len(BAD)
    sample = found.drop(index=[*BAD]).iloc[::500]
    expected = OnnxSkill.load(folder / "onnx").annotate(sample[[*given.columns]])
    assert [*sample["predicted"]] == [*expected["predicted"]]
    assert [*sample["probability"]] == pytest.approx([*expected["probability"]], abs=1e-5)
