import pytest

from skip_exp.report.cells import (
    FOUND,
    Setting,
    Stat,
    at_chance,
    cells,
    comparable,
    failures,
    front,
    gather,
    main_method,
    majority,
    stat,
    variants,
)
from tests.helpers.fakes import failed, grid, result


def only(found):
    gathered = cells(found)
    assert len(gathered) == 1
    return gathered[0]


def test_stat():
    assert stat([]) is None and stat([None]) is None
    assert stat([0.5]) == Stat(0.5, None, 1)
    assert stat([1, None, 3]) == Stat(2.0, pytest.approx(2**0.5), 2)


def test_a_cell_gathers_seeds():
    cell = only([result(seed=seed) for seed in (1, 2, 3)])
    finals = [result(seed=seed)["metric"]["final"] for seed in (1, 2, 3)]
    assert cell.setting == Setting("sst2", "minilm", "activation_gradient", "", 0.5)
    assert cell.stat("metric", "final") == stat(finals)
    assert cell.metric == "accuracy"


def test_of_repeated_runs_the_latest_counts():
    old = result(n_eval=1, finished="2024-01-01T00:00:00+00:00")
    new = result(n_eval=2, finished="2024-01-02T00:00:00+00:00")
    for found in ([old, new], [new, old]):
        assert [run["n_eval"] for run in only(found).runs] == [2]


def test_a_reused_copy_does_not_hide_what_was_timed_anew():
    original = result(latency={"speedup": 2.0, "contended": False})
    copy = result(latency={"speedup": 1.2, "contended": True}, reused=True)
    for found in ([original, copy], [copy, original]):
        assert only(found).speedup() == Stat(2.0, None, 1)


def test_a_failure_counts_until_the_same_seed_is_done():
    found = [result(seed=1), failed(seed=2)]
    assert [run["seed"] for run in only(found).failed] == [2]
    assert failures(found, cells(found)) == [found[1]]
    found.append(result(seed=2, finished="2023-01-01T00:00:00+00:00"))
    assert only(found).failed == [] and failures(found, cells(found)) == []


def test_a_setting_that_only_failed_is_a_cell_without_runs():
    cell = only([failed()])
    assert cell.runs == [] and len(cell.failed) == 1
    assert cell.metric == "-" and cell.stat("metric", "final") is None


def test_a_failure_before_the_task_was_known_is_listed_and_in_no_cell():
    lost = failed(task="sst2") | {"task": None}
    assert cells([lost]) == []
    assert failures([lost], []) == [lost]


def test_sample_rows_are_a_cell_of_their_own():
    found = [result(seed=1), result(seed=1, data_is_sample=True)]
    assert [(cell.is_sample, len(cell.runs)) for cell in cells(found)] == [(False, 1), (True, 1)]


def test_contended_timings_are_no_speedup():
    quiet = result(seed=1, latency={"speedup": 2.0, "contended": False})
    loud = result(seed=2, latency={"speedup": 1.1, "contended": True})
    assert only([quiet, loud]).speedup() == Stat(2.0, None, 1)
    assert not only([quiet, loud]).contended
    assert only([loud]).speedup() is None and only([loud]).contended
    assert not only([result(latency={})]).contended


def test_comparable_leaves_out_what_does_not_change_the_numbers():
    config = {
        "task": {"name": "rte"},
        "logger": {"name": "wandb"},
        "seed": 1,
        "data": {"source": "local", "dir": "/x", "max_length": 128},
        "prune": {"ratio": 0.5, "sites": ["ffn", "heads"]},
        "attribution": {"_target_": "f", "samples": 256},
    }
    assert comparable(config) == {
        "data.max_length": "128",
        "prune.sites": "ffn+heads",
        "attribution.samples": "256",
    }


def test_variants_name_only_what_differs():
    found = [
        result(config={"tune": {"lr": 0.1, "epochs": 3}}),
        result(config={"tune": {"lr": 0.2, "epochs": 3}}),
        result(task="rte", config={"tune": {"lr": 0.3, "epochs": 9}}),
        result(attribution="random", config={"tune": {"lr": 0.4, "epochs": 3}}),
    ]
    assert variants(found) == ["tune.lr=0.1", "tune.lr=0.2", "", ""]
    assert len(cells(found)) == 4


def test_missing_is_what_a_sweep_spans_and_no_result_covers():
    found = grid(["sst2", "rte"], ["minilm"], [0.3, 0.5], attributions=["random"])
    gap = found.pop(7)
    assert gather(found).missing == [
        (Setting(gap["task"], "minilm", "random", "", gap["ratio"]), gap["seed"])
    ]
    same = {key: gap[key] for key in ("task", "ratio", "seed", "attribution")}
    assert gather([*found, failed(**same)]).missing == []


def test_sweeps_of_different_grids_are_not_multiplied():
    found = [result(seed=1, ratio=0.3, sweep="a"), result(seed=2, ratio=0.5, sweep="b")]
    assert gather(found).missing == []
    single = [one | {"sweep": None} for one in grid(["sst2"], ["x"], [0.1])[:3]]
    assert gather(single).missing == []


@pytest.mark.parametrize(("dense", "expected"), [(0.5, True), (0.599, True), (0.601, False)])
def test_at_chance_is_two_standard_errors_of_the_majority(dense, expected):
    scores = {"name": "accuracy", "dense": dense}
    cell = only([result(metric=scores, majority={"accuracy": 0.5}, n_eval=100)])
    assert at_chance(cell) is expected


@pytest.mark.parametrize(("dense", "expected"), [(0.0, True), (0.199, True), (0.201, False)])
def test_at_chance_of_matthews(dense, expected):
    scores = {"name": "matthews", "dense": dense}
    cell = only([result(metric=scores, majority={"accuracy": 0.9}, n_eval=100)])
    assert at_chance(cell) is expected
    assert majority(cell, "matthews") == 0


def test_at_chance_of_f1_is_judged_on_accuracy():
    fields = {"metric": {"name": "f1", "dense": 0.9}, "majority": {"accuracy": 0.5}, "n_eval": 100}
    assert at_chance(only([result(metrics={"accuracy": {"dense": 0.55}}, **fields)])) is True
    assert at_chance(only([result(metrics={}, **fields)])) is None


def test_main_method_is_never_the_control():
    gathered = cells([*grid(["sst2"], ["minilm"], [0.3]), result(attribution="random", ratio=0.9)])
    assert {c.setting.attribution for c in filter(main_method(gathered), gathered)} == {
        "activation_gradient"
    }


def test_front():
    points = [(1.0, 80.0), (1.5, 81.0), (2.0, 79.0), (1.8, 70.0), (2.0, 60.0)]
    assert front(points) == [(1.5, 81.0), (2.0, 79.0)]
    assert front([]) == []


def looked(ratio, /, seed=1, task="sst2", **goal):
    """The result of a job that looked for its ratio."""
    asked = {"ratio": 0.5, "max_drop": None, "target_speedup": None, "sites": ["ffn"]} | goal
    config = {"task": {"name": task}, "tune": {"lr": 0.005}, "prune": asked, "seed": seed}
    return result(task, ratio=ratio, seed=seed, config=config)


AUTO = {"ratio": "auto", "max_drop": 1.0}


def test_seeds_that_found_different_ratios_are_one_cell():
    cell = only([looked(0.55, 1, **AUTO), looked(0.65, 2, **AUTO)])
    assert cell.setting == Setting(
        "sst2", "minilm", "activation_gradient", "prune.max_drop=1.0", FOUND
    )
    assert cell.setting.ratio_text == "found"
    assert cell.stat("params", "block_pruned").mean == pytest.approx(0.6)
    speed = only([looked(0.41, 1, target_speedup=2.0), looked(0.43, 2, target_speedup=2.0)])
    assert speed.setting.variant == "prune.target_speedup=2.0"


def test_what_was_looked_for_is_apart_from_what_was_asked_for():
    found = [looked(0.5, **AUTO), looked(0.5, **AUTO | {"max_drop": 2.0}), looked(0.5)]
    assert sorted(each.setting.ratio for each in cells(found)) == [FOUND, FOUND, 0.5]


def test_a_sweep_of_searches_spans_no_ratio_of_another_job():
    drops = [{"ratio": "auto", "max_drop": drop} for drop in (1.0, 2.0)]
    found = [
        looked(0.5 + 0.05 * seed, seed, task, **drop)
        for seed in (1, 2)
        for task in ("sst2", "rte")
        for drop in drops
    ]
    assert gather(found).missing == []
    (setting, seed), *more = gather(found[:-1]).missing
    assert (setting.task, setting.variant, seed, more) == ("rte", "prune.max_drop=2.0", 2, [])
    mixed = [looked(0.3), looked(0.4, seed=2, target_speedup=2.0), looked(0.41, target_speedup=2.0)]
    assert [(s.ratio, seed) for s, seed in gather(mixed).missing] == [(0.3, 2)]


def test_a_search_that_failed_belongs_to_its_cell():
    broken = looked(0.5, 2, **AUTO) | {"status": "failed", "ratio": None, "error": "no"}
    cell = only([looked(0.5, 1, **AUTO), broken])
    assert [run["seed"] for run in cell.failed] == [2]
