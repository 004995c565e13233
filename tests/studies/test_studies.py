"""The numbers of the published tables, by hand, and that pages show them; tasks that compose."""

from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from skip_exp.config import schema
from skip_exp.report.tables import pipe_rows
from skip_exp.within import choose
from studies import bound, evidence, few, figures, frontier, pages


def test_the_table_has_a_mean_per_group() -> None:
    rows = pd.DataFrame(
        [
            {"task": task, "seed": seed, "ratio": ratio}
            | {"metric/dense": dense, "metric/final": dense - 10 * ratio + seed}
            for task, dense in (("sst2", 90.0), ("cola", 30.0), ("mpqa", 80.0))
            for seed in (0, 2)
            for ratio in (0.5, 0.9)
        ]
    )
    head, _, *body = evidence.table(rows)
    assert head == ["task", "seeds", "dense", "50 %", "90 %"]
    lines = {line[0]: line for line in body}
    assert lines["SST-2"][1:4] == ["2", "90.0 ± 0.0", "86.0 ± 1.4 (-4.0)"]
    assert lines["mean, development"][1:4] == ["", "60.0", "56.0"]
    assert lines["against dense"][1:4] == ["", "", "-4.0"]  # of two tasks
    assert "mean, confirmation" not in lines  # of one task
    assert lines["MPQA"][-1] == "72.0 ± 1.4 (-8.0)"


def test_a_change_is_from_the_dense_models_of_the_same_seeds() -> None:
    jobs = [
        {"seed": 1, "ratio": 0.52, "metric/dense": 80.0, "metric/final": 79.0},
        {"seed": 1, "ratio": 0.9, "metric/dense": 80.0, "metric/final": 76.0},
        {"seed": 2, "ratio": 0.9, "metric/dense": 90.0, "metric/final": 88.0},
    ]
    line = evidence.table(pd.DataFrame([{"task": "cr"} | job for job in jobs]))[-1]
    assert line == ["CR", "2", "85.0 ± 7.1", "79.0 (-1.0)", "82.0 ± 8.5 (-3.0)"]


def test_three_tasks_have_an_interval() -> None:
    means = pd.DataFrame({"dense": [80.0, 70.0, 60.0], 0.9: [79.0, 68.0, 57.0], 0.95: [1, 2, None]})
    changes = pd.DataFrame({0.9: [-1.0, -2.0, -3.0], 0.95: [-79.0, -68.0, None]})
    mean, against = evidence.summary("x", means, changes)
    assert mean == ["mean, x", "", "70.0", "68.0", "-"]
    # 2 ± 4.303 / sqrt(3)
    assert against == ["against dense", "", "", "-2.0 (-4.5 to +0.5)", "-"]


def test_the_pages_show_the_rows() -> None:
    """``python -m studies.pages`` writes what is committed."""
    for path in pages.PAGES:
        assert (pages.ROOT / path).read_text(encoding="utf-8") == pages.render(path)
    readme = (pages.ROOT / "README.md").read_text(encoding="utf-8")
    for lines in (figures.summarize(), pages.list_train()):
        assert pipe_rows(lines) in readme


SWEEPS = Path(__file__).resolve().parents[2] / "studies" / "sweeps"


def test_every_task_composes() -> None:
    schema.register()
    with initialize_config_dir(str(schema.conf_dir()), version_base="1.3"):
        search = f"hydra.searchpath=[file://{SWEEPS}]"
        for task in SWEEPS.glob("task/*.yaml"):
            cfg = compose("config", [search, f"+task={task.stem}", "output_dir=."])
            assert cfg.task.name == task.stem


def test_a_cut_is_compared_on_the_seeds_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def scores(ahead: float) -> pd.DataFrame:
        return pd.DataFrame([[80 + ahead, 99], [80, None]], ["cut", "layers"])  # by seed

    monkeypatch.setattr(frontier, "TASKS", (1, 2, 3))
    monkeypatch.setattr(frontier, "RIVALS", {"cut": "layers"})
    monkeypatch.setattr(frontier, "read_scores", scores)
    # 2 ± 4.303 / sqrt(3)
    assert frontier.compare("cut") == "2.0 points more (-0.5 to 4.5)"


def test_random_neurons_are_compared_with_attributed_ones_by_task() -> None:
    """SST-2 loses 3 in the mean of two seeds, CoLA 1: 2 ± 12.706 / sqrt(2) * sqrt(2)."""
    jobs = [("sst2", 1, 2.0), ("sst2", 2, 4.0), ("cola", 1, 1.0)]
    rows = []
    for task, seed, loss in jobs:
        row = {"task": task, "seed": seed, "ratio": 0.7, "metric/dense_attribution": 90.0}
        for column in figures.PHASES:
            row |= {f"{column}_attribution": 80.0, f"{column}_control": 80.0 - loss}
        rows.append(row)
    pairs = pd.DataFrame(rows)
    assert figures.lose(pairs, 0.7) == "-2.0 (-14.7 to +10.7)"
    lines = figures.compare(pairs)
    assert lines[2] == ["SST-2", "2", "90.0", "80.0", "77.0 (-3.0)"]
    assert lines[-1] == ["mean, re-tuned", "", "", "80.0", "-2.0 (-14.7 to +10.7)"]


def test_rankings_are_compared_on_the_tasks_and_the_seed_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SST-2 loses 3, CoLA 1; CR lacks first-order scores, and the second seed does not count."""
    jobs = [("sst2", 1, 3.0), ("sst2", 2, 50.0), ("cola", 1, 1.0), ("cr", 1, 50.0)]

    def read_pairs(recipe: str, method: str) -> pd.DataFrame:
        rows = []
        for task, seed, loss in jobs:
            for ratio in (0.7, 0.9):
                row = {"task": task, "seed": seed, "ratio": ratio}
                row |= {f"{figures.FINAL}_attribution": 80.0, f"{figures.FINAL}_control": 80 - loss}
                rows.append(row)
        return pd.DataFrame(rows[:-2] if method == "first_order" else rows)

    monkeypatch.setattr(figures, "read_pairs", read_pairs)
    head, _, *body = figures.compare_methods()
    assert head[1:] == ["`skip`, 2 tasks, 70 %", "90 %", "`strong`, 2 tasks, 70 %", "90 %"]
    assert [line[0] for line in body] == [*figures.METHODS.values()]
    assert body[0][1:] == ["-2.0 (-14.7 to +10.7)"] * 4


def test_few_shot_files_stand_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"task": task, "ratio": ratio, "split": "validation", "before": number, "after": number - 1}
        for ratio in (0.7, 0.0)
        for number, task in enumerate(reversed(few.SHOTS), start=80)
    ]
    rows.append(rows[0] | {"split": "select", "before": 0, "after": 0})
    monkeypatch.setattr(few.pd, "read_csv", lambda path: pd.DataFrame(rows))
    uncut, cut = few.list_shots()
    assert uncut == [
        "`strong`, uncut",
        *(f"{score}.0 / {score - 1}.0" for score in range(85, 79, -1)),
    ]
    assert cut == ["70 % cut", *uncut[1:]]


def test_a_simulated_choice_counts_what_the_chosen_model_truly_loses() -> None:
    """80 rows without a changed answer show no loss of 2.9 points, or of 4.6 at a split level."""
    allowed = bound.count_choices({0.9: (0.0, 0.0)}, 80, 3.0)
    assert (allowed["holds"], allowed["above"], allowed["cut"]) == (100, 0, 100)
    with mock.patch.object(choose, "LOSS_LEVEL", bound.LEVELS[1]):
        assert bound.count_choices({0.9: (0.0, 0.0)}, 80, 3.0)["cut"] == 0
        assert bound.count_choices({0.9: (0.0, 0.0)}, 80, 4.6)["cut"] == 100
    lost = bound.count_choices({0.9: (3.1, 3.1)}, 80, 3.0)  # 0.969 ** 80 of slices show nothing
    assert lost["above"] == lost["cut"] == pytest.approx(100 - lost["holds"])
    assert lost["cut"] == pytest.approx(8.1, abs=2)


def test_a_limit_is_compared_with_the_true_loss() -> None:
    generator = np.random.default_rng(0)
    row = bound.count_limits(generator, "accuracy", (3.0, 3.0), 80, 500)
    assert row["holds"] == pytest.approx(100 * (1 - 0.97**80), abs=3)  # unless nothing is lost
    assert bound.count_limits(generator, "f1_macro", (3.0, 5.0), 75, 5)["loss"] > 3
