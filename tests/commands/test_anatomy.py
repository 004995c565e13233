import re

import pandas as pd
import pytest

import skip_exp
from skip_exp import pipeline, results
from skip_exp.commands.anatomy import main
from skip_exp.errors import SkipError
from skip_exp.neurons.measure import PARTS
from skip_exp.neurons.subjects import opened
from skip_exp.report.anatomy import scarcity
from skip_exp.report.matrices import gains
from tests.helpers.toy import save_toy, toy_job

SMALL = ["--rows", "40", "--ratio", "0.5"]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """A task of two seeds and two ratios, and one of another name on the same rows."""
    root = tmp_path_factory.mktemp("anatomy")
    toy = save_toy(root / "toy")
    for task, seed, ratio in (("x", 1, 0.5), ("x", 1, 0.3), ("x", 2, 0.5), ("y", 1, 0.5)):
        own = [f"task.name={task}", f"seed={seed}", f"prune.ratio={ratio}"]
        pipeline.run(toy_job(toy, root, f"jobs/{task}-{seed}-{ratio}", *own))
    return root


@pytest.fixture(scope="module")
def made(jobs):
    out = jobs / "out"
    out.mkdir()
    about = {"task": "x", "backbone": "tiny", "seed": 1, "ratio": 0.5, "rows": [64] * 4}
    owners = {"kept": ["x", "y"] * 2, "is_random": [False, False, True, True]}
    swept = pd.DataFrame({**about, **owners, "score": [0.875, 0.75, 0.5, 0.5]})
    swept.to_csv(out / "transfer.csv", index=False)
    few = pd.concat([swept.assign(by="activation_gradient"), swept.assign(by="random", rows=0)])
    few.to_csv(out / "scarcity.csv", index=False)
    assert main([str(jobs / "jobs"), "--out", str(out), *SMALL]) == 0
    return out


def test_a_table_and_a_section_for_each_part(made):
    page = (made / "anatomy.html").read_text()
    for part in PARTS:
        assert len(pd.read_csv(made / f"{part}.csv")) > 0
    found = set(re.findall('<section id="([a-z-]+)"', page))
    assert found == {
        *("where", "ablation-zero", "ablation-mean", "areas", "overlap", "stable", "causal"),
        *("transfer", "scarcity", "calibration", "abroad"),
    }
    assert "+37.5" in page and "+25.0" in page  # above the control
    for outside in ("http:", "https:", "<script", "src=", "@import", "url("):
        assert outside not in page
    body = page.split("</style>")[1]
    assert "None" not in body and not re.search(r"\bnan\b", body)


def test_scores_are_those_of_the_jobs(jobs, made):
    """The dense model is opened, not trained again: same scores as in its result."""
    curves = pd.read_csv(made / "ablation.csv")
    assert set(zip(curves["task"], curves["seed"], strict=True)) == {("x", 1), ("x", 2), ("y", 1)}
    subjects = {(s.task, s.seed): s for s in opened([jobs / "jobs"], 10**6)}
    for result in results.load(jobs / "jobs"):
        subject = subjects[result["task"], result["seed"]]
        assert subject.score(subject.dense) == pytest.approx(result["select"]["dense"])


def test_balanced_accuracy_is_the_mean_recall(jobs):
    subject = next(iter(opened([jobs / "jobs/x-1-0.5"], 10**6)))
    labels, said = subject.labels(), subject.logits(subject.dense).argmax(-1)
    recalls = [(said[labels == label] == label).float().mean() for label in labels.unique()]
    assert subject.balanced(subject.dense) == pytest.approx(float(sum(recalls)) / len(recalls))


def test_where_counts_what_the_skills_keep(jobs, made):
    table = pd.read_csv(made / "where.csv")
    for result in results.load(jobs / "jobs"):
        same = table[["task", "seed", "ratio"]] == [result[k] for k in ("task", "seed", "ratio")]
        kept = table.loc[same.all(axis=1), "kept"].sum()
        assert kept == sum(kept for kept, _ in result["keep_sizes"].values())


def test_two_names_of_the_same_rows_share_their_neurons(made):
    table = pd.read_csv(made / "overlap.csv")
    assert set(table["kind"]) == {"encoder.ffn", "encoder.self.heads"}
    units = table[(table["between"] == "jobs") & (table["kind"] == "encoder.ffn")]
    jobs = units.set_index(["task", "seed", "other task", "other seed"])
    assert jobs.loc[("x", 1, "y", 1), "overlap"] == 1
    assert jobs.loc[("x", 1, "x", 1), "overlap"] == 1
    assert jobs.loc[("x", 1, "x", 2), "overlap"] < 1


def test_final_of_the_same_rows_scores_the_same_abroad(jobs, made):
    table = pd.read_csv(made / "abroad.csv")
    assert set(zip(table["task"], table["on"], strict=True)) == {("x", "y"), ("y", "x")}
    found = skip_exp.anatomy(jobs / "jobs", parts=["abroad"], rows=10**6)["abroad"]
    scores = found.set_index(["task", "state", "ratio"])["score"]
    for result in results.load(jobs / "jobs"):
        if result["seed"] == 1:
            for state in ("pruned", "final"):
                score = scores[result["task"], state, result["ratio"]]
                assert score == pytest.approx(result["metric"][state])


def test_of_a_skill(jobs, tmp_path):
    skill = skip_exp.Skill.load(jobs / "jobs/x-1-0.5/skill")
    found = skip_exp.anatomy(skill, parts=["where"])
    assert set(found["where"]["seed"]) == {1}
    skip_exp.Skill.load(jobs / "jobs/y-1-0.5/skill").save(tmp_path / "beside")
    saved = skip_exp.Skill.load(skill.save(tmp_path / "saved"))
    again = skip_exp.anatomy(saved, parts=["where"])["where"]
    pd.testing.assert_frame_equal(again, found["where"][found["where"]["task"] == "x"])


@pytest.mark.parametrize(
    "wrong",
    [
        *({"parts": ["nowhere"]}, {"methods": ["nothing"]}, {"ratio": 1.0}, {"rows": 0}),
        {"ratio": 0.999},  # more than heads and units have
        *({"methods": [f"paper:{key}"]} for key in ("sample=6", "options.tokens=a", "options.x=1")),
    ],
)
def test_refusals(jobs, wrong):
    key, value = next(iter(wrong.items()))
    with pytest.raises(SkipError) as caught:
        skip_exp.anatomy(jobs / "jobs", **wrong)
    named = value[0] if isinstance(value, list) else value
    assert f"{key}={named}" in str(caught.value)


def test_heads_and_their_dims_have_no_complement(jobs):
    toy = save_toy(jobs / "dims/toy")
    pipeline.run(toy_job(toy, jobs, "dims/x", "task.name=x", "prune.sites=[heads,vo,ffn]"))
    with pytest.raises(SkipError) as caught:
        skip_exp.anatomy(jobs / "dims", parts=["causal"], ratio=0.5)
    assert "prune.sites=heads,vo,ffn" in str(caught.value)
    assert len(skip_exp.anatomy(jobs / "dims", parts=["where"])["where"])


def test_without_jobs_or_without_the_cache(jobs, tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    (jobs / "cache").rename(jobs / "away")
    try:
        assert main([str(jobs / "jobs"), "--out", str(tmp_path / "out"), *SMALL]) == 1
    finally:
        (jobs / "away").rename(jobs / "cache")
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and all(line.startswith("error: ") for line in lines)
    assert not (tmp_path / "out").exists()


def test_wandb_gets_tables_and_page(made, monkeypatch, jobs):
    monkeypatch.setenv("WANDB_MODE", "offline")
    folders = [str(jobs / "jobs"), "--out", str(made), "--parts", "where", "overlap", *SMALL]
    assert main([*folders, "--wandb", "project"]) == 0
    [run] = (made / "wandb").glob("offline-run-*")
    assert list(run.rglob("*.table.json")) and list(run.rglob("*.html"))


def test_two_recipes_in_one_folder_are_refused(jobs, tmp_path, capsys):
    toy = save_toy(tmp_path / "toy")
    own = ["task.name=x", "seed=1", "attribution=magnitude"]
    pipeline.run(toy_job(toy, tmp_path, "jobs/other", "prune.ratio=0.5", *own))
    assert main([str(jobs / "jobs"), str(tmp_path / "jobs"), "--out", str(tmp_path / "out")]) == 1
    assert "other/result.json" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "task,seed\nx,1\n"])
def test_a_bad_table_of_a_sweep_is_refused_before_any_work(tmp_path, content, capsys):
    (tmp_path / "transfer.csv").write_text(content)
    assert main([str(tmp_path / "jobs"), "--out", str(tmp_path)]) == 1
    assert "transfer.csv" in capsys.readouterr().err


def test_a_task_with_more_methods_or_seeds_drops_no_other_from_the_mean():
    rows = [("a", "x", 1), ("a", "y", 1), ("a", "x", 2), ("b", "x", 1)]
    table = pd.DataFrame(
        [(*each, count) for each in rows for count in (0, 64)]
        + [("a", "x", 1, 500), ("b", "x", 1, 900), ("c", "x", 1, 64)],  # all rows of each
        columns=["task", "by", "seed", "rows"],
    ).assign(backbone="tiny", ratio=0.9, score=0.5)
    (drawn,), _ = scarcity(table)
    assert "2 tasks" in drawn[0] and "900" not in drawn[1]


def test_a_gain_is_above_the_mean_of_the_tasks_random_draws():
    cells = {"kept": ["x", "y"] * 2, "is_random": [False, False, True, True]}
    table = pd.DataFrame(cells | {"score": [0.9, 0.75, 0.5, 0.7]})
    table = table.assign(task="x", backbone="tiny", seed=1, ratio=0.9, rows=64)
    assert gains(table)["gain"].tolist() == pytest.approx([0.3, 0.15])
