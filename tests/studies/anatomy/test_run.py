"""The anatomy of tiny jobs from end to end."""

import pandas as pd
import pytest

from skip_exp import pipeline, results
from studies.anatomy.__main__ import main
from studies.anatomy.jobs import open_subjects
from studies.anatomy.measure import CONTROL, MEASURES
from tests.helpers.toy import save_toy, toy_job


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """A task of two seeds and two ratios, and one of another name on the same rows."""
    root = tmp_path_factory.mktemp("anatomy")
    toy = save_toy(root / "toy")
    for task, seed, ratio in (("cr", 1, 0.5), ("cr", 1, 0.3), ("cr", 2, 0.5), ("sst2", 1, 0.5)):
        own = [f"task.name={task}", f"seed={seed}", f"prune.ratio={ratio}", "retune.copies=0"]
        pipeline.run(toy_job(toy, root, f"jobs/{task}-{seed}-{ratio}", *own))
    return root


def measure(monkeypatch, folders, out, *more):
    """Run ``python -m studies.anatomy``; the tables by name."""
    asked = ["x", *map(str, folders), "--out", str(out), "--ratio", "0.5", *more]
    monkeypatch.setattr("sys.argv", asked)
    main()
    return {path.stem: pd.read_csv(path) for path in out.glob("*.csv")}


@pytest.fixture(scope="module")
def tables(jobs):
    with pytest.MonkeyPatch.context() as patch:
        return measure(patch, [jobs / "jobs"], jobs / "out", "--rows", "40")


def test_every_part_has_a_table(tables):
    assert tables.keys() == MEASURES.keys()
    assert all(len(table) for table in tables.values())
    assert not tables["ablation"].isna().any().any()


def test_where_counts_what_the_skills_keep(jobs, tables):
    for result in results.load(jobs / "jobs"):
        same = tables["where"][["task", "seed", "ratio"]] == [
            result[key] for key in ("task", "seed", "ratio")
        ]
        kept = tables["where"].loc[same.all(axis=1), "kept"].sum()
        assert kept == sum(kept for kept, _ in result["keep_sizes"].values())


def test_two_names_of_the_same_rows_share_their_neurons(tables):
    table = tables["overlap"]
    units = table[(table["between"] == "jobs") & (table["kind"] == "encoder.ffn")]
    found = units.set_index(["task", "seed", "other task", "other seed"])["overlap"]
    assert found["cr", 1, "sst2", 1] == found["cr", 1, "cr", 1] == 1
    assert found["cr", 1, "cr", 2] < 1


def test_models_score_as_in_their_jobs(jobs):
    """Dense models and skills are those of the jobs."""
    scores = {}
    for subject in open_subjects([jobs / "jobs"]):
        for state, ratio, model in subject.states():
            scores[subject.task, subject.seed, state, ratio] = subject.score(model)
    for result in results.load(jobs / "jobs"):
        place = (result["task"], result["seed"])
        metric = result["metric"]
        assert scores[*place, "dense", 0.0] == pytest.approx(metric["dense"])
        for state in ("pruned", "final"):
            assert scores[*place, state, result["ratio"]] == pytest.approx(metric[state])


def test_transfer_has_every_pair_with_its_control_once(jobs, tmp_path, monkeypatch):
    asked = ["--parts", "transfer", "--retune-rows", "40"]
    folders = [jobs / "jobs/cr-1-0.5", jobs / "jobs/sst2-1-0.5"]
    found = measure(monkeypatch, folders, tmp_path, *asked)["transfer"]
    names = ("cr", "sst2")
    keys = [[task, kept, random] for task in names for kept in names for random in (False, True)]
    assert found[["task", "kept", "is_random"]].to_numpy().tolist() == keys
    scores = found.set_index(["task", "kept", "is_random"])["score"]
    assert scores["cr", "cr", False] == scores["cr", "sst2", False]  # the same neurons
    again = measure(monkeypatch, folders, tmp_path, *asked)["transfer"]
    pd.testing.assert_frame_equal(again, found)


def test_scarcity_without_rows_is_the_pruned_model(jobs, tmp_path, monkeypatch):
    asked = ["--parts", "scarcity", "--retune-rows", "0", "40", "--draws", "2"]
    found = measure(monkeypatch, [jobs / "jobs/cr-1-0.5"], tmp_path, *asked)["scarcity"]
    assert found["by"].value_counts().to_dict() == {"activation_gradient": 2, CONTROL: 4}
    (subject,) = open_subjects([jobs / "jobs/cr-1-0.5"])
    pruned = found[found["rows"] == 0].set_index(["by", "draw"])["score"]
    relevance = subject.relevance_by("activation_gradient")  # the jobs' own has fewer samples
    score = subject.retune(subject.keep(0.5, relevance), 0)
    assert pruned["activation_gradient", 0] == pytest.approx(score, abs=1e-5)
