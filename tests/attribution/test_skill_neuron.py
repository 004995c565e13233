"""Predictivity by hand: which share of either class is above the mean of all texts."""

import pytest
from torch import Tensor

from skip_exp.attribution import skill_neuron
from skip_exp.errors import SkipError
from tests.helpers.hand import TwoUnits, texts
from tests.helpers.tiny import tiny_batch, tiny_model

pytestmark = pytest.mark.core


def score(batches: list[dict[str, Tensor]], **model: int) -> list[float]:
    return skill_neuron.scores(TwoUnits(**model), batches)["encoder.0.ffn"].tolist()  # type: ignore[arg-type]


def test_without_positions_of_the_prompt_by_hand() -> None:
    """Means over the texts' positions: 1, 2 against 3, 10; baseline 4; shares above: 0 and 1/2."""
    batch = texts([1, 1, 50], [0, 4, 50], [3, 50, 50], [9, 11, 10], labels=[0, 0, 1, 1])
    assert score([batch]) == [0.25, 0.25]  # the second unit is twice the first


def test_the_best_token_of_an_input_prompt_by_hand() -> None:
    """Of two prompt tokens the first never moves, the second is lower in class 1: Acc = 0.
    The text behind them would tell nothing."""
    batch = texts([7, 9, 1], [7, 8, 2], [7, 2, 1], [7, 3, 2], labels=[0, 0, 1, 1])
    assert score([batch], prompt=2) == [0.5, 0.5]
    assert score([batch], prompt=1) == [0.0, 0.0]


def test_one_baseline_over_all_batches() -> None:
    first, second = texts([1], [2], labels=[0, 0]), texts([3], [10], labels=[1, 1])
    assert score([first, second]) == [0.25, 0.25]


def test_of_several_classes_each_counts_against_the_rest() -> None:
    """Baseline 4; shares above: class 0 none, class 1 half, class 3 all (there is no class 2).
    Of the rest 3/4, 1/2 and 1/4: apart by 3/4, 0 and 3/4, of which half the mean counts."""
    batch = texts([0], [1], [2], [6], [7], [8], labels=[0, 0, 1, 1, 3, 3])
    assert score([batch]) == [0.25, 0.25]
    without_the_last = {name: x[:4] for name, x in batch.items()}  # baseline 9/4
    assert score([without_the_last]) == [0.25, 0.25]


def test_classes_of_one_text_each_do_not_make_every_neuron_perfect() -> None:
    """Baseline 3, one text above it: apart by 1/2, 1/2 and 1, of which half the mean counts."""
    assert score([texts([0], [1], [8], labels=[0, 1, 2])]) == pytest.approx([1 / 3, 1 / 3])


def test_a_unit_that_never_moves_is_worth_nothing_where_a_class_is_rare() -> None:
    assert score([texts([5], [5], [5], [5], labels=[0, 0, 0, 1])]) == [0.0, 0.0]


def test_a_head_is_the_sum_over_its_dims_and_a_decoder_has_no_prompt() -> None:
    model = tiny_model("t5", "input", "seq2seq")
    found = skill_neuron.scores(model, [tiny_batch("t5", rows=n, seed=n) for n in (8, 5, 1)])
    for site, scores in found.items():
        assert scores.min() >= 0
        assert scores.max() <= (0.5 * 8 if site.endswith(".heads") else 0.5)
    assert found["encoder.1.self.heads"].max() > 0.5
    assert found["decoder.1.ffn"].max() > 0


def test_one_class_is_refused() -> None:
    with pytest.raises(SkipError, match=r"raise attribution\.samples"):
        score([texts([1], [2], labels=[1, 1])])
