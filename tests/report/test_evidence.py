"""What was chosen on some tasks beside what others say; recipes are known by what was swept."""

import json

import pandas as pd
import pytest

from skip_exp.report import evidence, frame, recipes, screens
from skip_exp.report import grid as grids
from skip_exp.report.intervals import Difference
from skip_exp.report.opponents import DENSE
from skip_exp.report.pages import table
from tests.helpers.fakes import result, store

SWEEP = """# Cost: little
defaults: [config, {experiment}_self_]
sweep: {{question: 'Does it matter?', factor: [{factor}]}}
hydra:
  mode: MULTIRUN
  sweeper:
    params: {{+task: "sst2,cola", seed: "1,2,3", {params}}}
"""
GROUPS = {"development": ["sst2", "mrpc"], "confirmation": ["cola", "rte"]}
GIVEN = [f"--{name}={','.join(tasks)}" for name, tasks in GROUPS.items()]
FINETUNE = {"tune.train": "full", "tune.bias_lr": 5e-5, "tune.epochs": 4, "prompt.kind": "none"}


@pytest.fixture(scope="module", autouse=True)
def sweeps(tmp_path_factory):
    """Sweep files in place of the real ones: two with the default, one without."""
    folder = tmp_path_factory.mktemp("sweeps")
    files = {
        "opponents": ("", "attribution", "attribution: 'activation_gradient,random'"),
        "budget": ("", "retune.budget", "retune.budget: '0,1.2'"),
        "finetune": (
            "override experiment: finetune, ",
            "tune.bias_lr",
            "tune.bias_lr: '5e-5,1e-4', prune.ratio: 0",
        ),
    }
    for name, (experiment, factor, params) in files.items():
        text = SWEEP.format(experiment=experiment, factor=factor, params=params)
        (folder / f"{name}.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "sweep_dir", lambda: folder)
        screens.default_settings.cache_clear()
        found = screens.read_all()  # once: composing takes its time
        patch.setattr(evidence, "read_all", lambda: found)
        yield found
    screens.default_settings.cache_clear()


@pytest.fixture(scope="module")
def run(sweeps):
    """A finished result: dense 0.8 on select; validation is a point lower throughout."""
    plain = json.dumps(grids.composed(grids.PLAIN, ["+task=sst2"]))
    random = json.dumps(grids.composed(grids.PLAIN, ["+task=sst2", "attribution=random"]))

    def made(final, task="sst2", seed=1, ratio=0.5, retune=True, attribution=None, **more):
        config = json.loads(random if attribution else plain)
        values = more.pop("values", {}) | {"retune.enabled": retune}
        for key, value in values.items():
            group, _, name = key.partition(".")
            config[group][name] = value
        scores = {"dense": 0.8, "pruned": final, "final": final}
        scores |= more.pop("select", {})
        metric = {"name": "accuracy", **{name: value - 0.01 for name, value in scores.items()}}
        given = {
            "attribution": attribution or "activation_gradient",
            "config": config,
            "job_id": json.dumps([task, seed, ratio, attribution, values, more.get("backbone")]),
            "select": scores,
            "metric": metric | more.pop("metric", {}),
            "params": {"block_pruned": more.pop("removed", ratio)},
        }
        return result(task=task, seed=seed, ratio=ratio, **given | more)

    return made


def compact(found, sweeps):
    return recipes.compact(frame.rows(found), sweeps)


def summary(found, sweeps):
    rows = evidence.summary(compact(found, sweeps), GROUPS)
    return {(row["ratio"], row["option"]): row for row in rows.to_dict("records")}


def test_recipes_are_known_by_what_was_swept(run, sweeps):
    finetune = {"ratio": 0, "retune": False}
    found = [
        run(0.7),
        run(0.7, ratio=0.9, values={"retune.budget": 0, "retune.epochs": 9, "retune.patience": 6}),
        run(0.8, ratio=0),
        run(0.8, ratio=0, attribution="random"),  # nothing was cut: whatever chose
        run(0.7, attribution="random"),
        run(0.6, attribution="random", retune=False),
        run(0.7, ratio=0, backbone="minilm[2 layers]", removed=0.667),
        run(0.9, values=FINETUNE, **finetune),
        run(0.9, values=FINETUNE | {"tune.bias_lr": 1e-4}, **finetune),
        run(0.7, values={"retune.lr": 1.0}),
        run(0.7, data_is_sample=True, job_id="sample"),
    ]
    rows = compact(found, sweeps)
    names = set(zip(rows["recipe"], rows["setting"], rows["ratio"], strict=True))
    assert names == {
        ("default", "", 0.5),
        ("default", "", 0.9),
        ("dense_continued", "", 0.0),
        ("opponents: random", "", 0.5),
        ("opponents: random, before re-tuning", "", 0.5),
        ("smaller dense", "2 layers", 0.0),
        ("finetune", "5e-05", 0.0),
        ("finetune", "0.0001", 0.0),
        ("retune.lr=1.0", "", 0.5),
    }
    assert set(rows["backbone"]) == {"minilm"}


def test_what_an_option_is_depends_on_the_ratio(run, sweeps):
    """Three epochs are the default at 0.5, and what is left of it without a budget at 0.9."""
    short = {"retune.budget": 0}
    found = [run(0.7, ratio=0.9, values=short), run(0.7), run(0.7, seed=2, values=short)]
    rows = compact(found, sweeps)
    assert sorted(zip(rows["ratio"], rows["recipe"], strict=True)) == [
        (0.5, "default"),
        (0.5, "default"),
        (0.9, "budget: 0"),
    ]


def test_a_compact_row(run, sweeps):
    told = {"select_crossfit": {"dense": 0.79, "final": 0.7021}}
    told |= {"git_commit": "abc", "latency": {"speedup": 2.5, "device": "cpu"}}
    (row,) = compact([run(0.71236, **told)], sweeps).to_dict("records")
    assert list(row) == recipes.COLUMNS
    assert (row["select"], row["select_crossfit"], row["dense_select_crossfit"]) == (
        71.24,
        70.21,
        79,
    )
    assert (row["final"], row["dense"], row["block_removed"], row["epochs"]) == (70.24, 79, 50, 3)
    assert (row["speedup"], row["processor"], row["commit"]) == (2.5, "cpu", "abc")
    # Without re-tuning no epoch was chosen after the cut; where nothing is cut, dense chose one.
    screened = run(0.7, retune=False, select_crossfit={"dense": 0.79, "final": None})
    tuned = run(0.8, ratio=0, values=FINETUNE, retune=False, select_crossfit={"dense": 0.79})
    rows = compact([screened, tuned], sweeps).set_index("ratio")["select_crossfit"]
    assert rows.to_dict() == {0.5: 70.0, 0.0: 79.0}


def test_of_repeated_jobs_the_last_counts(run, sweeps):
    early = run(0.7, finished="2024-01-01T00:00:00+00:00")
    late = run(0.6, finished="2024-01-02T00:00:00+00:00") | {"job_id": "other code"}
    (row,) = compact([late, early], sweeps).to_dict("records")
    assert row["select"] == 60
    parts = [compact([each], sweeps) for each in (late, early)]
    pd.testing.assert_frame_equal(recipes.together(parts), compact([late, early], sweeps))


@pytest.fixture
def told(run):
    """The default 2 points below dense on sst2 and level on mrpc; random 5 below it, or level."""
    found = []
    for task, final, random in (
        ("sst2", 0.78, 0.73),
        ("mrpc", 0.80, 0.74),
        ("cola", 0.79, 0.73),
        ("rte", 0.79, 0.73),
    ):
        for seed in (1, 2, 3):
            found.append(run(final, task, seed))
            found.append(run(random, task, seed, attribution="random"))
            found.append(run(0.75, task, seed, ratio=0))  # dense is the better of both
    return found


def test_both_groups_stand_side_by_side(told, sweeps):
    rows = summary(told, sweeps)
    assert list(rows) == [(0.5, "default"), (0.5, DENSE), (0.5, "opponents: random")]
    own, drop, random = rows.values()
    assert (own["development_score"], own["confirmation_score"]) == pytest.approx((78, 78))
    assert own["default"] == "" and drop["development_bare"] == 0
    assert drop["development_speedup"] == 1 < own["development_speedup"]
    # Means over tasks of 2 and 0 points, and of 1 and 1; of four draws of two tasks one is 0, 0.
    assert (drop["development"], drop["confirmation"]) == pytest.approx((1.0, 1.0))
    assert (drop["development_low"], drop["development_high"]) == pytest.approx((0.0, 2.0))
    assert drop["development_by_task"] == "mrpc +0.00, sst2 +2.00"
    assert (drop["confirmation_low"], drop["confirmation_high"]) == pytest.approx((1.0, 1.0))
    assert (drop["confirmation_verdict"], drop["default"]) == ("better", "beaten")  # a real drop
    assert (random["select"], random["select_pairs"]) == (pytest.approx(-5.5), 6)
    assert (random["select_verdict"], random["confirmation_verdict"]) == ("worse", "worse")
    assert random["default"] == "confirmed"


def test_what_is_measured_against_the_better_dense(run, told, sweeps):
    """The longest dense_continued that is not longer, where select says that it is better."""
    better = [run(0.83, "sst2", seed, ratio=0) for seed in (1, 2, 3)]
    same_but = [each for each in told if not (each["ratio"] == 0 and each["task"] == "sst2")]
    drop = summary([*same_but, *better], sweeps)[0.5, DENSE]
    assert drop["development_by_task"] == "mrpc +0.00, sst2 +5.00"
    nine = {"retune.epochs": 9, "retune.patience": 6}
    longer = [run(0.83, "sst2", seed, ratio=0, values=nine) for seed in (1, 2, 3)]
    heavy = [run(0.70, "sst2", seed, ratio=0.9) for seed in (1, 2, 3)]
    rows = summary([*same_but, *longer, *heavy], sweeps)
    assert rows[0.9, DENSE]["development_by_task"] == "sst2 +13.00"
    assert rows[0.5, DENSE]["development_by_task"] == "mrpc +0.00, sst2 +2.00"
    assert rows[0.5, DENSE]["development_bare"] == 3
    shorter = summary([*same_but, *better, *heavy], sweeps)  # three epochs against nine
    assert shorter[0.9, DENSE]["development_by_task"] == "sst2 +13.00"
    assert shorter[0.9, DENSE]["development_bare"] == 0


def test_select_is_cross_fitted_where_all_tell_it(told, sweeps):
    assert not summary(told, sweeps)[0.5, "default"]["development_crossfit"]
    full = []
    for each in told:
        final = each["select"]["final"] - (0.03 if each["attribution"] == "random" else 0.01)
        full.append(each | {"select_crossfit": {"dense": 0.79, "final": final}})
    random = summary(full, sweeps)[0.5, "opponents: random"]
    assert random["development_crossfit"]
    assert random["select"] == pytest.approx(-7.5) and random["development"] == pytest.approx(-5.5)


def test_opponents_of_one_size_count_where_they_keep_as_much(run, told, sweeps):
    """Of fine-tuning the rate that is best on select, per task; of layers the fewest that do."""
    for task in ("sst2", "mrpc"):
        for seed in (1, 2, 3):
            for rate, final in ((5e-5, 0.86), (1e-4, 0.84 if task == "sst2" else 0.88)):
                values = FINETUNE | {"tune.bias_lr": rate}
                told.append(run(final, task, seed, ratio=0, values=values, retune=False))
            for layers, removed, final in ((3, 0.5, 0.7), (2, 0.667, 0.6)):
                name = f"minilm[{layers} layers]"
                told.append(run(final, task, seed, ratio=0, backbone=name, removed=removed))
            told.append(run(0.7, task, seed, ratio=0.9))
    rows = summary(told, sweeps)
    tuned = rows[0.5, "finetune"]
    assert tuned["development_by_task"] == "mrpc +8.00, sst2 +8.00"
    assert tuned["default"] == "beaten" and tuned["confirmation_pairs"] == 0
    assert rows[0.9, "finetune"]["development"] == pytest.approx(17)
    assert rows[0.5, "smaller dense"]["development_score"] == pytest.approx(69)
    assert rows[0.9, "smaller dense"]["development_score"] == pytest.approx(59)
    assert rows[0.5, "smaller dense"]["default"] == "chosen"  # nothing to confirm it by


def test_settings_are_chosen_between_by_the_seeds_that_have_them_all(run, told, sweeps):
    """The rate that is better by seed 1 was run with seed 2 as well, where all is worse."""
    for task in ("sst2", "mrpc"):
        for seed, rate, final in ((1, 5e-5, 0.85), (1, 1e-4, 0.86), (2, 1e-4, 0.80)):
            values = FINETUNE | {"tune.bias_lr": rate}
            told.append(run(final, task, seed, ratio=0, values=values, retune=False))
    tuned = summary(told, sweeps)[0.5, "finetune"]
    assert tuned["development_pairs"] == 4
    assert tuned["development_score"] == pytest.approx(82)


def test_settings_that_are_equal_on_select_are_told_apart_by_crossfit(run, told, sweeps):
    for task in ("sst2", "mrpc"):
        for seed, rate, crossfit in ((1, 5e-5, 0.83), (1, 1e-4, 0.84), (2, 1e-4, 0.84)):
            values = FINETUNE | {"tune.bias_lr": rate}
            found = run(0.86, task, seed, ratio=0, values=values, retune=False)
            told.append(found | {"select_crossfit": {"dense": crossfit, "final": crossfit}})
    assert summary(told, sweeps)[0.5, "finetune"]["development_pairs"] == 4  # 1e-4: both seeds


@pytest.mark.parametrize(
    ("select", "confirmation", "expected"),
    [
        ("worse", "worse", "confirmed"),
        ("worse", "tie", "not confirmed"),
        ("worse", None, "chosen"),
        ("tie", "worse", "tie"),
        ("worse", "better", "beaten"),
        ("better", None, "beaten"),
        (None, "worse", "-"),
    ],
)
def test_standings(select, confirmation, expected):
    verdicts = {
        "worse": Difference(9, -0.1, {}, (-0.2, -0.1), 0.001),
        "tie": Difference(9, 0.0, {}, (-0.1, 0.1), 1.0),
        "better": Difference(9, 0.1, {}, (0.1, 0.2), 0.001),
        None: None,
    }
    assert evidence.standing(verdicts[select], verdicts[confirmation]) == expected


def test_verdicts_are_corrected_for_all_rows_of_their_kind(run, told, sweeps):
    """Two were asked about on select: the drop, of which one draw in four is 0, and random."""
    _, drop, random = summary(told, sweeps).values()
    assert random["select_p"] == pytest.approx(2 * 2 / 10_000)
    assert drop["select_p"] == pytest.approx(2 / 4, abs=0.03) and drop["select_verdict"] == "tie"


def test_the_command_adds_what_is_finished_by_now(told, run, tmp_path, capsys):
    store(tmp_path / "first", told[:20])
    store(tmp_path / "later", told[20:])
    out = tmp_path / "docs"
    assert evidence.main([str(tmp_path / "first"), *GIVEN, "--out", str(out)]) == 0
    partial = (out / "evidence_runs.csv").read_text()
    assert len(partial.splitlines()) == 21
    again = [str(tmp_path / "later"), str(out / "evidence_runs.csv"), *GIVEN, "--out", str(out)]
    assert evidence.main(again) == 0
    written = ("evidence_runs.csv", "evidence_tasks.csv", "evidence.csv")
    files = [(out / name).read_text() for name in written]
    assert set(partial.splitlines()) < set(files[0].splitlines())
    shown = capsys.readouterr().out
    assert "confirmed" in shown and "tasks are drawn anew" in shown.replace("\n", " ")
    every = [str(tmp_path / "first"), str(tmp_path / "later")]
    assert evidence.main([*every, *GIVEN, "--out", str(tmp_path / "b")]) == 0
    assert files == [(tmp_path / "b" / name).read_text() for name in written]
    shown = table(out, "evidence.csv where ratio == 0.5 | option | drop = {confirmation:+.1f}")
    assert shown.splitlines()[3] == f"| {DENSE} | +1.0 |"


def test_a_job_that_was_timed_again_has_its_new_timing(told, run, tmp_path):
    """A quiet one: of those that a file and a folder have, in whichever order they came."""
    file, busy = str(tmp_path / "evidence_runs.csv"), {"speedup": 2.0, "contended": True}
    for number, timings in enumerate([(busy, 2.5), (2.5, busy), (2.0, 2.5)]):
        for name, timing in zip("ab", timings, strict=True):
            quiet = {"speedup": timing, "contended": False}
            latency = quiet if isinstance(timing, float) else timing
            store(tmp_path / f"{number}{name}", [run(0.7, latency=latency)])
        assert evidence.main([str(tmp_path / f"{number}a"), *GIVEN, "--out", str(tmp_path)]) == 0
        assert evidence.load([str(tmp_path / f"{number}b"), file])["speedup"].tolist() == [2.5]


def test_groups_are_named_with_care(told, run, tmp_path, capsys):
    store(tmp_path / "a", told)
    folder, out = str(tmp_path / "a"), ["--out", str(tmp_path)]
    given = ["--development", "sst2, mrpc", "--confirmation", "rte,mpqq"]
    assert evidence.main([folder, *given, *out]) == 0
    first = capsys.readouterr().out
    assert "No result yet of mpqq." in first, first
    both = ["--development", "sst2,cr", "--confirmation", "cr"]
    assert evidence.main([folder, *both, *out]) == 1
    assert capsys.readouterr().err.startswith("error: cr: a task that chose cannot confirm")


def test_means_over_seeds(run, sweeps):
    found = [run(0.70, seed=1), run(0.74, seed=2), run(0.75, seed=1, ratio=0.9)]
    half, most = evidence.by_task(compact(found, sweeps)).to_dict("records")
    assert (half["task"], half["ratio"], half["recipe"], half["seeds"]) == (
        "sst2",
        0.5,
        "default",
        2,
    )
    assert (half["final"], half["final_std"]) == (71.0, 2.83)
    assert (half["dense"], half["dense_std"], half["block_removed"]) == (79.0, 0.0, 50.0)
    assert (most["final"], most["seeds"]) == (74.0, 1) and pd.isna(most["final_std"])


def test_refusals_are_one_line(tmp_path, capsys):
    assert evidence.main([str(tmp_path), *GIVEN]) == 1
    assert "run a job first" in capsys.readouterr().err
    (tmp_path / "evidence_runs.csv").write_text("task\nsst2\n")
    assert evidence.main([str(tmp_path / "evidence_runs.csv"), *GIVEN]) == 1
    error = capsys.readouterr().err
    assert "cannot be read: no " in error and error.count("\n") == 1
