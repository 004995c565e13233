"""Shapes are timed in turns, and a ratio is a median of pairs."""

from pathlib import Path

import pytest

from benchmarks.shapes import Times, list_models, measure


def test_a_ratio_is_taken_pair_by_pair() -> None:
    times = Times([[3.0] * 4, [1.0, 1.0, 2.0, 1.0]], contended=False)
    assert (times.median(1), times.ratio(0, 1)) == (1.0, (3.0, 0.5625))


@pytest.mark.slow
def test_every_model_has_a_row_in_every_form(tmp_path: Path) -> None:
    rows = measure("bert-tiny", 8, 1, [0.5, 0.9], 0.0, tmp_path)
    names = {row["model"] for row in rows}
    assert names == {"uncut", "50 % cut", "90 % cut", "90 % cut, 1 layer"}
    assert {row["form"] for row in rows} >= {"fp32", "int8"}
    assert all(row["ms"] > 0 for row in rows)


def test_layers_that_are_gone_leave_nothing() -> None:
    models = list_models("bert-tiny", [0.5, 0.9])
    assert [len(model.attentions()) for model in models.values()] == [2, 2, 2, 1]
