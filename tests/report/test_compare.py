"""Paired comparisons, by hand-worked numbers."""

import gzip

import numpy as np
import pandas as pd
import pytest

from skip_exp.commands import compare
from skip_exp.commands.compare import MEAN, main, t_test
from skip_exp.errors import SkipError
from skip_exp.report import frame
from skip_exp.results import PREDICTIONS
from tests.helpers.fakes import failed, result, store

# Per task and seed the scores of A and B on the selection slice.
FINALS = {
    "sst2": {1: (0.80, 0.83), 2: (0.82, 0.83)},  # differences 3 and 1: 2 points
    "rte": {1: (0.60, 0.60)},  # 0 points
    "mrpc": {1: (0.70, 0.71)},  # 1 point
}


def job(lr=0.1, task="sst2", seed=1, final=0.8, config=None, **fields):
    """A result; ``config``: further groups of its configuration, or keys of them."""
    groups = {"task": {"name": task}, "tune": {"lr": lr, "epochs": 3}, "seed": seed}
    for group, keys in (config or {}).items():
        groups[group] = groups.get(group, {}) | keys
    metric = {"name": "accuracy", "dense": 0.9, "pruned": 0.5, "final": 0.5}
    own = f"{task}-{seed}-{lr}-{config}-{fields}"
    given = {"config": groups, "metric": metric, "select": {"final": final}, "job_id": own}
    return result(task, seed=seed, **given | fields)


@pytest.fixture
def folder(tmp_path):
    found = [
        job(lr, task, seed, final)
        for task, seeds in FINALS.items()
        for seed, finals in seeds.items()
        for lr, final in zip((0.1, 0.2), finals, strict=True)
    ]
    return store(tmp_path / "jobs", found)


@pytest.fixture
def compared(tmp_path):
    """``compared(jobs, key, values)``: the rows of a comparison."""
    folders = iter(range(99))

    def rows(found, by="tune.lr", values=(), **how):
        folder = store(tmp_path / str(next(folders)), found)
        return compare.compare(frame.load([str(folder)]), by, values, **how)

    return rows


def test_seeds_are_averaged_before_tasks(folder):
    rows = compare.compare(frame.load([str(folder)]), "tune.lr", ("0.1", "0.2"))
    tasks = rows[rows["task"] != MEAN].set_index("task")
    assert tasks["difference"].to_dict() == pytest.approx({"sst2": 0.02, "rte": 0.0, "mrpc": 0.01})
    assert tasks["pairs"].to_dict() == {"sst2": 2, "rte": 1, "mrpc": 1}
    assert tasks.loc["sst2", "baseline_score"] == pytest.approx(0.81)
    # Differences 3 and 1: mean 2, standard error 1, t(0.975, 1) = 12.7062.
    over_seeds = tasks.loc["sst2", ["low", "high"]].tolist()
    assert over_seeds == pytest.approx([-0.107062, 0.147062], abs=1e-6)
    assert tasks["low"].isna().tolist() == [True, True, False]  # mrpc and rte have one pair
    (mean,) = rows[rows["task"] == MEAN].to_dict("records")
    # Differences 2, 0 and 1: mean 1, standard error 1 / sqrt(3), t(0.975, 2) = 4.302653.
    assert mean["difference"] == pytest.approx(0.01)
    assert (mean["low"], mean["high"]) == pytest.approx((-0.0148414, 0.0348414), abs=1e-6)
    assert mean["p"] == pytest.approx(0.225403, abs=1e-6)  # t = sqrt(3)
    assert (mean["pairs"], mean["over"]) == (4, "tasks")


def test_the_t_test_by_hand():
    # Mean 0, standard deviation 1, standard error 1 / sqrt(2), t(0.975, 1) = 12.7062.
    assert t_test([-(0.5**0.5), 0.5**0.5]) == pytest.approx((-8.98464, 8.98464, 1.0), abs=1e-4)
    assert all(map(pd.isna, t_test([0.5])))
    assert all(map(pd.isna, t_test([0.83 - 0.80, 0.84 - 0.81])))  # they say nothing of a spread


def test_the_first_value_is_the_baseline_else_the_commonest(compared):
    found = [job(0.1, final=0.8), job(0.2, final=0.9)]
    turned = compared(found, values=("0.2", "0.1"))
    assert turned["difference"].tolist() == pytest.approx([-0.1])
    assert set(compared([*found, job(0.2, "cola", final=0.3)])["baseline"]) == {"0.2"}


@pytest.mark.parametrize(
    "other",
    [
        {"config": {"tune": {"epochs": 9}}},
        {"config": {"task": {"words": ["a"]}}},
        {"seed": 2},
        {"data_hash": "of other rows"},
        {"start": "skip_exp/nli"},
        {"ratio": 0.9},
        {"backbone": "t5_mini"},
    ],
)
def test_jobs_that_differ_in_more_are_no_pair(compared, other):
    plain = {"config": {"task": {"words": ["b"]}}, "data_hash": "of the rows"}
    with pytest.raises(SkipError):
        compared([job(0.1, **plain), job(0.2, **plain | other)])


def test_in_a_group_everything_may_differ(compared):
    found = [
        job(final=0.9, config={"tune": {"epochs": 3}}),
        job(0.2, final=0.7, config={"tune": {"epochs": 9}}),
    ]
    assert compared(found, "tune")["difference"].abs().tolist() == pytest.approx([0.2])
    part = {"backbone": {"layers": 3}}
    found = [job(final=0.9), job(final=0.7, backbone="minilm[3 layers]", config=part)]
    assert compared(found, "backbone")["difference"].abs().tolist() == pytest.approx([0.2])


def test_a_job_that_ran_again_counts_once_with_its_latest_result(compared):
    again = job(0.1, final=0.9, versions={"code": "newer"}, finished="2026-01-01T00:00:00+00:00")
    rows = compared([job(0.1, final=0.8), again, job(0.2, final=0.7)], values=("0.1", "0.2"))
    assert rows["difference"].tolist() == pytest.approx([-0.2]) and rows["pairs"].tolist() == [1]


def test_other_keys_that_differ_make_further_pairs(compared):
    found = [
        job(lr, final=final, config={"tune": {"epochs": epochs}})
        for epochs, finals in ((3, (0.5, 0.6)), (9, (0.7, 0.9)))
        for lr, final in zip((0.1, 0.2), finals, strict=True)
    ]
    (row,) = compared(found, values=("0.1", "0.2")).to_dict("records")
    assert row["pairs"] == 2 and row["difference"] == pytest.approx(0.15)


def test_a_choice_is_named_as_its_command_typed_it(tmp_path):
    """A custom method, one of a file whose function has another name, an own one over another."""
    methods = ("my.wanda.scores", "activation_gradient", "random", "own.scores")
    jobs = store(tmp_path, [job(attribution=method) for method in methods])
    typed = ("wanda", "first_order", "random", "random\n- attribution._target_=own.scores")
    for place, choice in zip(sorted(jobs.iterdir()), typed, strict=True):
        (place / ".hydra").mkdir()
        (place / ".hydra/overrides.yaml").write_text(f"- +task=sst2\n- attribution={choice}\n")
    assert main([str(jobs), "--by", "attribution=wanda,first_order,random,own.scores"]) == 0
    assert main([str(jobs), "--by", "attribution=activation_gradient,random"]) == 1


def test_pairs_of_different_code_are_told(compared):
    mixed = [job(0.1, versions={"code": "old"}), job(0.2, versions={"code": "new"})]
    same = [job(lr, "rte", versions={"code": "old"}) for lr in (0.1, 0.2)]
    rows = compared([*mixed, *same])
    assert rows.set_index("task")["mixed"].to_dict() == {"sst2": 1, "rte": 0, MEAN: 1}
    assert compare.MIXED.format(1) in compare.notes(rows, "select")


def test_a_group_is_compared_by_all_that_differs_in_it(compared):
    def options(tokens, samples):
        return {"attribution": {"options": {"tokens": tokens}, "samples": samples}}

    found = [
        job(task="cola", config=options("sum", 256)),
        job(config=options("sum", 256)),
        job(config=options("max", 20), final=0.7),
        job(config={"attribution": {"samples": 256}}, attribution="random"),  # without options
    ]
    rows = compared(found, "attribution")
    method = "activation_gradient, attribution.options.tokens"
    assert set(rows["baseline"]) == {f"{method}=sum, attribution.samples=256"}
    assert set(rows["option"]) == {f"{method}=max, attribution.samples=20", "random"}


def test_ratios_and_backbones_are_compared_too(compared):
    rows = compared([job(ratio=r, final=1 - r) for r in (0.3, 0.5)], "prune.ratio", ("0.3", "0.5"))
    assert rows["difference"].tolist() == pytest.approx([-0.2]) and "ratio" not in rows
    rows = compared([job(backbone=name) for name in ("minilm", "t5_mini")], "backbone")
    assert rows["difference"].tolist() == [0.0] and "backbone" not in rows


def test_jobs_that_searched_for_their_ratio_are_paired(compared):
    goal = {"prune": {"ratio": "auto", "within": 1.0}}
    found = [job(lr, ratio=ratio, config=goal) for lr, ratio in ((0.1, 0.4), (0.2, 0.6))]
    assert compared(found)["ratio"].tolist() == ["found"]


def test_failures_are_left_out_and_stand_in_rows_are_named(compared):
    found = [job(0.1, final=0.8), job(0.2, final=0.9)]
    stand_ins = [job(lr, "rte", data_is_sample=True) for lr in (0.1, 0.2)]
    more = [failed(task="mrpc"), job(0.1, "cola", final=None), job(0.2, "cola")]
    assert compared([*found, *stand_ins, *more])["task"].tolist() == ["rte (stand-in)", "sst2"]
    real = [job(lr, "rte") for lr in (0.1, 0.2)]
    tasks = compared([*found, *stand_ins, *real]).set_index("task")["pairs"]
    assert tasks.to_dict() == {"rte": 1, "rte (stand-in)": 1, "sst2": 1, "mean": 2}
    with pytest.raises(SkipError):
        compared([failed(task="mrpc")])


@pytest.mark.parametrize("asked", ["prune.allocation", "tune.lr=0.1,0.3", "tune.epochs"])
def test_what_cannot_be_compared_is_one_line(folder, capsys, asked):
    assert main([str(folder), "--by", asked]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"--by {asked.partition('=')[0]}" in error
    assert main([str(folder), "--by", "tune.lr=[0.1"]) == 1
    assert capsys.readouterr().err.startswith("error: [0.1: ")


def test_values_are_read_as_hydra_reads_them(tmp_path, capsys):
    sites = (["ffn"], ["ffn", "heads"])
    jobs = str(store(tmp_path / "jobs", [job(config={"prune": {"sites": s}}) for s in sites]))
    assert main([jobs, "--by", "prune.sites=[ffn],[ffn,heads]"]) == 0
    assert "ffn+heads against ffn" in capsys.readouterr().out


def with_predictions(folder, *answers, true=(1, 1, 1, 1, 0, 0, 0, 0)):
    """Two jobs that differ in the learning rate, with the predictions of both."""
    store(folder, [job(lr) for lr, _ in zip((0.1, 0.2), answers, strict=False)])
    for place, predicted in zip(sorted(folder.iterdir()), answers, strict=True):
        table = pd.DataFrame({"label": true, "predicted": predicted, "probability": 0.9})
        table.to_csv(place / PREDICTIONS, index=False)
    return folder


def test_on_the_validation_split_a_task_is_compared_over_its_rows(tmp_path):
    folder = with_predictions(tmp_path / "a", (0, 0, 0, 1, 0, 0, 0, 1), (1, 1, 1, 1, 0, 0, 1, 1))
    results = frame.load([str(folder)])
    (row,) = compare.compare(results, "tune.lr", ("0.1", "0.2"), "validation").to_dict("records")
    # Three rows that only the second has right, one that only the first has: 2 of 8.
    assert row["over"] == "rows" and pd.isna(row["p"])
    assert -0.3 < row["low"] < 0.25 < row["high"] < 0.8
    selected = compare.compare(results, "tune.lr")
    assert set(selected["over"]) == {"pairs"}


def test_rows_that_are_not_the_same_are_not_compared(tmp_path):
    folder = with_predictions(tmp_path / "a", (0,) * 8, (1,) * 8)
    other = sorted(folder.iterdir())[1] / PREDICTIONS
    others = b"label,predicted\n" + b"0,1\n" * 8
    for content in (gzip.compress(others), gzip.compress(b"x\n1\n"), b"", b"damaged"):
        other.write_bytes(content)
        rows = compare.compare(frame.load([str(folder)]), "tune.lr", split="validation")
        assert rows["low"].isna().all() and set(rows["over"]) == {"pairs"}


def test_seeds_share_their_rows(tmp_path):
    true = np.arange(200) % 2
    one, other = true.copy(), true.copy()
    one[:20], other[:40] = 1 - one[:20], 1 - other[:40]
    paths = []
    for name, predicted in {"a": one, "b": other, "c": true, "d": true}.items():
        folder = with_predictions(tmp_path / name, predicted, true=true)
        paths.append(str(next(folder.iterdir()) / "result.json"))
    pairs = pd.DataFrame({"metric": "accuracy", "path": paths[:2], "path of option": paths[2:]})
    # Wrong in 20 and in 40 rows, against none: 30 of 200 on average.
    low, high, p = compare.bootstrap_rows(pairs)
    assert 0.09 < low < 0.15 < high < 0.21 and pd.isna(p)
