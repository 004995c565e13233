"""The anatomy of tiny jobs from end to end."""

import pandas as pd
import pytest

from skip_exp import pipeline, results
from studies.anatomy.__main__ import main
from studies.anatomy.jobs import open_subjects
from studies.anatomy.measure import MEASURES
from tests.helpers.toy import save_toy, toy_job

pytestmark = pytest.mark.slow  # whole jobs, and every measure of them


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """A task of two seeds, and one of another name on the same rows."""
    root = tmp_path_factory.mktemp("anatomy")
    toy = save_toy(root / "toy")
    for task, seed, ratio in (("cr", 1, 0.5), ("cr", 2, 0.5), ("sst2", 1, 0.5)):
        own = [f"task.name={task}", f"seed={seed}", f"prune.ratio={ratio}", "retune.copies=0"]
        pipeline.run(toy_job(toy, root, f"jobs/{task}-{seed}-{ratio}", *own))
    return root


@pytest.fixture(scope="module")
def tables(jobs):
    """What ``python -m studies.anatomy`` writes, by name."""
    asked = ["--out", str(jobs / "out"), "--ratio", "0.5", "--rows", "40"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["x", str(jobs / "jobs"), *asked])
        main()
    return {path.stem: pd.read_csv(path) for path in (jobs / "out").glob("*.csv")}


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
