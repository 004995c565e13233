"""The pictures of docs/anatomy.md, by hand-made tables, and its table by the committed rows."""

from itertools import combinations_with_replacement, product

import pandas as pd

from skip_exp.report.tables import piped
from studies import anatomy_pictures as pictures


def numbers(axes):
    return [text.get_text() for text in axes.texts]


def test_overlap_is_of_other_seeds():
    jobs = [*product(("a", "b"), (1, 2))]
    rows = []
    for (task, seed), (other, second) in combinations_with_replacement(jobs, 2):
        # The same job: 1; the same task: 0.5; others: 0.25, and of one seed 0.75.
        shared = 0.5 if task == other else 0.25
        shared = 1.0 if (task, seed) == (other, second) else shared
        shared = 0.75 if task != other and seed == second else shared
        ends = {"task": task, "seed": seed, "other task": other, "other seed": second}
        rows += [{"between": "jobs", "kind": k, "overlap": shared, **ends} for k in pictures.KINDS]
    figure = pictures.overlap(pd.DataFrame(rows))
    for axes in figure.axes:
        assert numbers(axes) == ["0.50", "0.25", "0.25", "0.50"]


def test_causal_is_of_zero_answers_in_points():
    harm = {("zero", "a", "a"): 0.2, ("zero", "b", "b"): 0.1, ("mean", "a", "a"): 0.05}
    rows = [
        {"answer": answer, "cut": cut, "task": task, "harm": harm.get((answer, cut, task), 0.0)}
        for answer, cut, task in product(("zero", "mean"), "ab", "ab")
    ]
    (axes,) = pictures.causal(pd.DataFrame(rows)).axes
    assert numbers(axes) == ["+20.0", "+0.0", "+0.0", "+10.0"]


def test_transfer_is_above_random_neurons_in_points():
    score = {("a", "a"): 0.9, ("a", "b"): 0.7, ("b", "a"): 0.75, ("b", "b"): 0.8}
    about = {"backbone": "x", "seed": 1, "ratio": 0.9, "rows": 64}
    rows = [
        {**about, "kept": kept, "task": task, "is_random": random, "score": 0.7 if random else s}
        for (kept, task), s in score.items()
        for random in (False, True)
    ]
    (axes,) = pictures.transfer(pd.DataFrame(rows)).axes
    assert numbers(axes) == ["+20.0", "+0.0", "+5.0", "+10.0"]


def test_a_panel_per_task_and_every_method_in_the_legend():
    rows = [
        {"task": task, "by": by, "first": first, "answer": "zero", "removed": x, "score": 0.9 - x}
        for task, by, first, x in product("abcd", ("own", "random"), ("least", "most"), (0.0, 0.5))
    ]
    figure = pictures.ablation(pd.DataFrame(rows))
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.axison] == [*"abcd"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["own", "random"]


def test_the_page_has_the_table_of_the_rows():
    page = (pictures.ROOT / "docs/anatomy.md").read_text(encoding="utf-8")
    rows = pd.read_csv(pictures.TABLES / "methods.csv")
    assert piped(pictures.judged(rows)) in page
