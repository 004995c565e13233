"""Tables of the final model's answers."""

from typing import Any

import pandas as pd
import pytest

from skip_exp.logger import answers
from tests.helpers.fakes import result

GIVEN = pd.DataFrame(
    {
        "label": [0, 1, 1, 0, 1],
        "predicted": [0, 0, 1, 1, 0],
        "probability": [0.9, 0.6, 0.8, 0.7, 0.95],
    }
)
LABELS = ["bad", "good"]


def test_mistakes_are_the_most_certain_first() -> None:
    columns, rows = answers.list_mistakes(GIVEN, LABELS)
    assert columns == ["row", "label", "predicted", "probability"]
    assert rows == [[5, "good", "bad", 0.95], [4, "bad", "good", 0.7], [2, "good", "bad", 0.6]]
    columns, rows = answers.list_mistakes(GIVEN, LABELS, list("abcde"))
    assert columns[-1] == "text" and [row[-1] for row in rows] == ["e", "d", "b"]
    many = pd.concat([GIVEN] * 100, ignore_index=True)
    assert len(answers.list_mistakes(many, LABELS)[1]) == answers.MOST_ROWS == 200


def test_confusions_are_counted() -> None:
    columns, rows = answers.count_confusions(GIVEN, LABELS)
    assert columns == ["label", "predicted", "rows"]
    assert rows[0] == ["good", "bad", 2]
    assert sorted(rows[1:]) == [["bad", "bad", 1], ["bad", "good", 1], ["good", "good", 1]]


@pytest.mark.parametrize(
    ("latency", "count"), [({"speedup": 2.5}, 2), ({"speedup": 2.5, "contended": True}, 0), ({}, 0)]
)
def test_the_point_of_score_and_speed_needs_a_quiet_timing(latency: Any, count: int) -> None:
    done = dict(result(latency=latency))
    columns, rows = answers.score_against_speed(done)
    assert columns == ["model", "speed-up", "accuracy"] and len(rows) == count
    if rows:
        assert rows[0][:2] == ["dense", 1.0] and rows[1][:2] == ["final", 2.5]
