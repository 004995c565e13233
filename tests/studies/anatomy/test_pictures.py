"""The pictures of studies/anatomy.md, by hand-made tables, and its table by the committed rows."""

from itertools import combinations_with_replacement, product

import pandas as pd
import pytest

from skip_exp.report.tables import pipe_rows
from studies.anatomy import pictures


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


def test_area_by_hand():
    rows = [("least", 0.0, 0.8), ("least", 0.5, 0.8), ("least", 1.0, 0.4)]
    rows += [("most", 0.0, 0.8), ("most", 0.5, 0.4), ("most", 1.0, 0.4)]
    table = pd.DataFrame(rows, columns=["first", "removed", "score"])
    table = table.assign(task="a", backbone="b", seed=1, by="x")
    assert pictures.areas(table)["area"].tolist() == [pytest.approx(0.7 - 0.5)]


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_every_stored_table_has_a_figure(name):
    table = pd.read_csv(pictures.TABLES / f"{name}.csv")
    assert pictures.PICTURES[name](table).axes
    assert (pictures.OUT / f"{name}.png").is_file()


def test_the_page_has_the_table_of_the_rows():
    page = (pictures.ROOT / "studies/anatomy.md").read_text(encoding="utf-8")
    rows = pd.read_csv(pictures.TABLES / "methods.csv")
    assert pipe_rows(pictures.rank_methods(rows)) in page
