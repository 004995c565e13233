import pandas as pd
import pytest

from skip_exp import pipeline
from skip_exp.neurons.subjects import opened
from studies import anatomy
from tests.helpers.toy import save_toy, toy_job


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    root = tmp_path_factory.mktemp("anatomy")
    toy = save_toy(root / "toy")
    for task in ("x", "y"):
        own = [f"task.name={task}", "prune.ratio=0.5", "retune.copies=0"]
        pipeline.run(toy_job(toy, root, f"jobs/{task}", *own))
    return root


def table(monkeypatch, jobs, part, *more):
    out = jobs / f"{part}.csv"
    asked = ["x", part, str(jobs / "jobs"), "--out", str(out), "--ratios", "0.5", *more]
    monkeypatch.setattr("sys.argv", asked)
    anatomy.main()
    return pd.read_csv(out)


@pytest.mark.slow
def test_transfer_has_every_pair_and_the_control_once(jobs, monkeypatch):
    found = table(monkeypatch, jobs, "transfer", "--rows", "40")
    keys = [[task, kept, random] for task in "xy" for kept in "xy" for random in (False, True)]
    assert found[["task", "kept", "is_random"]].to_numpy().tolist() == keys
    scores = found.set_index(["task", "kept", "is_random"])["score"]
    assert scores["x", "x", False] == scores["x", "y", False]  # the same rows: the same neurons
    pd.testing.assert_frame_equal(table(monkeypatch, jobs, "transfer", "--rows", "40"), found)


@pytest.mark.slow
def test_scarcity_without_rows_is_the_pruned_model(jobs, monkeypatch):
    found = table(monkeypatch, jobs, "scarcity", "--rows", "0", "40")
    assert set(found["by"]) == set(anatomy.METHODS)
    assert len(found) == 2 * 2 * (len(anatomy.METHODS) + 2)
    control = found[(found["by"] == anatomy.CONTROL) & (found["rows"] == 40)]
    assert control["draw"].tolist() == [0, 1, 2] * 2
    subject = next(iter(opened([jobs / "jobs/x"], 10**9)))
    pruned = found[(found["task"] == "x") & (found["rows"] == 0)].set_index("by")["score"]
    assert pruned["activation_gradient"] == pytest.approx(score_of_cut(subject), abs=1e-5)


def score_of_cut(subject):
    return anatomy.retuned(subject, subject.keep(0.5), 0)
