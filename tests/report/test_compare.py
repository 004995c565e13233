"""Paired comparisons, by hand-worked numbers."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch

from skip_exp.commands.compare import main
from skip_exp.config.task import TaskConfig
from skip_exp.data.metrics import build_metrics
from skip_exp.data.scores import score
from skip_exp.errors import SkipError
from skip_exp.report import by_rows, compare
from skip_exp.report.compare import ALL, interval
from skip_exp.results import PREDICTIONS
from tests.helpers.fakes import failed, result, store

# Per task and seed the final scores of A and B.
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
    metric = {"name": "accuracy", "dense": 0.9, "pruned": 0.5, "final": final}
    own = f"{task}-{seed}-{lr}-{config}-{fields}"
    return result(task, seed=seed, **{"config": groups, "metric": metric, "job_id": own} | fields)


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

    def rows(found, by="tune.lr", values=()):
        folder = store(tmp_path / str(next(folders)), found)
        return compare.compare(compare.load([str(folder)]), by, values)

    return rows


def means(rows, by="setting", name="difference"):
    return rows[rows["task"] == ALL].set_index(by)[name].to_dict()


def test_seeds_are_averaged_before_tasks(folder):
    rows = compare.compare(compare.load([str(folder)]), "tune.lr", ("0.1", "0.2"))
    tasks = rows[rows["task"] != ALL].set_index("task")
    assert tasks["difference"].to_dict() == pytest.approx({"sst2": 0.02, "rte": 0.0, "mrpc": 0.01})
    assert tasks["pairs"].to_dict() == {"sst2": 2, "rte": 1, "mrpc": 1}
    assert tasks.loc["sst2", "baseline_score"] == pytest.approx(0.81)
    (mean,) = rows[rows["task"] == ALL].to_dict("records")
    # Differences 2, 0 and 1: mean 1, standard error 1 / sqrt(3), t(0.975, 2) = 4.302653.
    assert mean["difference"] == pytest.approx(0.01)
    assert (mean["low"], mean["high"]) == pytest.approx((-0.0148414, 0.0348414), abs=1e-6)
    assert mean["pairs"] == 4


def test_the_interval_by_hand():
    # Mean 0, standard deviation 1, standard error 1 / sqrt(2), t(0.975, 1) = 12.7062.
    low, high = interval([-(0.5**0.5), 0.5**0.5])
    assert (low, high) == pytest.approx((-8.98464, 8.98464), abs=1e-4)
    assert interval([0.5, 0.5]) == (0.5, 0.5)
    assert all(map(pd.isna, interval([0.5])))


def test_the_first_value_is_the_baseline_else_the_commonest(compared):
    found = [job(0.1, final=0.8), job(0.2, final=0.9)]
    turned = compared(found, values=("0.2", "0.1"))
    assert list(means(turned).values()) == pytest.approx([-0.1])
    assert set(compared([*found, job(0.2, "cola", final=0.3)])["baseline"]) == {"0.2"}


@pytest.mark.parametrize(
    "other",
    [
        {"config": {"tune": {"epochs": 9}}},
        {"config": {"task": {"words": ["a"]}}},
        {"seed": 2},
        {"data_hash": "of other rows"},
        {"ratio": 0.9},
    ],
)
def test_jobs_that_differ_in_more_are_no_pair(compared, other):
    plain = {"config": {"task": {"words": ["b"]}}, "data_hash": "of the rows"}
    with pytest.raises(SkipError):
        compared([job(0.1, **plain), job(0.2, **plain | other)])


@pytest.mark.parametrize(
    ("by", "one", "other"),
    [
        ("task.text", {"data_hash": "a"}, {"data_hash": "b"}),  # it may change what is read
        ("tune.lr", {"start": "skip_exp/nli"}, {}),  # it may change what tuning starts from
        ("backbone.readout", {"config": {"task": {"words": ["a"]}}}, {}),
        ("tune", {"config": {"tune": {"epochs": 3}}}, {"config": {"tune": {"epochs": 9}}}),
    ],
)
def test_what_follows_from_the_compared_key_does_not_part_a_pair(compared, by, one, other):
    group, _, name = by.partition(".")
    found = []
    for value, fields in ((0.1, one), (0.2, other)):
        config = {"task": {"words": []}} | fields.get("config", {})
        config[group] = config.get(group, {}) | {name or "lr": value}
        found.append(job(0.3, final=value, **fields | {"config": config}))
    assert list(compared(found, by)["difference"].abs()) == pytest.approx([0.1, 0.1])


def of(backbone: str, rate: float, readout: str = "head", **fields) -> dict:
    config = {"tune": {"full_lr": rate}, "backbone": {"readout": readout}}
    return job(backbone=backbone, config=config, **fields)


def test_backbones_are_compared_at_the_rate_that_each_brings(compared):
    rows = compared([of("minilm", 1e-4, final=0.8), of("t5_mini", 1e-3, final=0.7)], "backbone")
    assert list(rows["difference"].abs()) == pytest.approx([0.1, 0.1])


def test_backbones_whose_rates_were_swept_are_compared_rate_by_rate(compared):
    swept = [of(name, rate) for name in ("minilm", "roberta_mini") for rate in (1e-4, 3e-4)]
    pairs = means(compared(swept, "backbone"), name="pairs")
    assert pairs == {"tune.full_lr=0.0001": 1, "tune.full_lr=0.0003": 1}


def test_a_readout_of_another_rate_is_no_pair(compared):
    with pytest.raises(SkipError):
        compared([of("t5_mini", 1e-3), of("t5_mini", 1e-4, "mlm")], "backbone.readout")


def test_another_start_is_no_pair_of_another_length(compared):
    lengths = [job(config={"prompt": {"length": length}}) for length in (4, 16)]
    with pytest.raises(SkipError):
        compared([lengths[0], lengths[1] | {"start": "skip_exp/nli"}], "prompt.length")


def test_what_differs_between_tasks_alone_names_no_setting(compared):
    """One mean over both tasks, each with rows, a start and a rate of its own."""
    found = [
        job(lr, task, seed, final, attribution=method, data_hash=task, start=start)
        for task, lr, start in (("sst2", 0.1, None), ("cola", 0.2, "nli"))
        for method, final in (("magnitude", 0.8), ("taylor", 0.7))
        for seed in (1, 2)
    ]
    rows = compared(found, "attribution", ("magnitude", "taylor"))
    (mean,) = rows[rows["task"] == ALL].to_dict("records")
    assert (mean["setting"], mean["pairs"], len(rows)) == ("", 4, 3)
    assert mean["low"] == pytest.approx(-0.1)


def test_what_differs_within_a_task_is_a_setting_in_every_task(compared):
    found = [
        job(lr, task, config={"tune": {"epochs": epochs}})
        for task, every in (("sst2", (3, 9)), ("cola", (9,)))
        for epochs in every
        for lr in (0.1, 0.2)
    ]
    pairs = means(compared(found), name="pairs")
    assert pairs == {"tune.epochs=3": 1, "tune.epochs=9": 2}


def test_a_task_without_a_pair_is_named(compared):
    found = [job(0.1), job(0.2), job(0.1, "rte"), job(0.2, "rte", config={"tune": {"epochs": 9}})]
    page = compare.page(compared(found), "tune.lr", "metric/final")
    assert "rte" in page and page.count("\n## ") == 1


def test_an_option_is_named_as_the_table_names_it(tmp_path):
    found = [job(backbone=name) for name in ("minilm", "minilm[3 layers]")]
    found += [job(config={"attribution": {"samples": n}}) for n in (32, 256)]
    jobs = str(store(tmp_path, found))
    assert main([jobs, "--by", "backbone=minilm,'minilm[3 layers]'"]) == 0
    few, many = (f"'activation_gradient, attribution.samples={n}'" for n in (32, 256))
    assert main([jobs, "--by", f"attribution={few},{many}"]) == 0


def test_pairs_of_different_code_are_told(compared):
    mixed = [job(0.1, versions={"code": "old"}), job(0.2, versions={"code": "new"})]
    same = [job(lr, "rte", versions={"code": "old"}) for lr in (0.1, 0.2)]
    rows = compared([*mixed, *same])
    assert rows.set_index("task")["mixed"].to_dict() == {"sst2": 1, "rte": 0, ALL: 1}
    assert compare.MIXED.format(1) in compare.page(rows, "tune.lr", "metric/final")


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
    assert rows["difference"].tolist() == pytest.approx([-0.2, -0.2]) and rows["ratio"].isna().all()
    rows = compared([job(backbone=name) for name in ("minilm", "t5_mini")], "backbone")
    assert rows["difference"].tolist() == [0.0, 0.0] and set(rows["backbone"]) == {""}


def test_a_search_is_a_value_of_the_ratio(compared):
    def searched(seed, drop, final):
        goal = {"prune": {"ratio": "auto", "max_drop": drop}}
        return job(ratio=0.4 + seed / 10, seed=seed, final=final, config=goal)

    found = [job(ratio=0.5, seed=seed, final=0.8) for seed in (1, 2)]
    found += [searched(seed, 1.0, 0.7) for seed in (1, 2)]
    rows = compared(found, "prune.ratio", ("0.5", "auto"))
    assert means(rows, "option") == pytest.approx({"found": -0.1})
    rows = compared([*found, searched(1, 5.0, 0.6)], "prune.ratio")  # another goal, another value
    goals = {f"found, prune.max_drop={drop}": d for drop, d in ((1.0, -0.1), (5.0, -0.2))}
    assert means(rows, "option") == pytest.approx(goals)


def test_whole_folders_are_compared_whatever_their_settings(tmp_path):
    def by_folder():
        return compare.compare(compare.load([one, two]), "folder", [one, two])

    again = job(0.1, final=0.9, versions={"code": "newer"}, finished="2026-01-01T00:00:00+00:00")
    one = str(store(tmp_path / "one", [job(0.1, final=0.8), again]))  # one job of newer code
    two = str(store(tmp_path / "two", [job(0.2, final=0.7, attribution="random")]))
    assert by_folder()["difference"].tolist() == pytest.approx([-0.2, -0.2])
    store(tmp_path / "two/more", [job(0.3)])
    with pytest.raises(SkipError):
        by_folder()


def test_stand_in_rows_and_failures_are_left_out(compared):
    found = [job(0.1, final=0.8), job(0.2, final=0.9)]
    stand_ins = [job(lr, "rte", data_is_sample=True) for lr in (0.1, 0.2)]
    more = [failed(task="mrpc"), job(0.1, "cola", final=None), job(0.2, "cola")]
    assert set(compared([*found, *stand_ins, *more])["task"]) == {"sst2", ALL}
    with pytest.raises(SkipError):
        compared(stand_ins)


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


def test_the_page_and_the_files(folder, tmp_path, capsys):
    for suffix in ("md", "csv"):
        out = tmp_path / f"compared.{suffix}"
        assert main([str(folder), "--by", "tune.lr=0.1,0.2", "--out", str(out)]) == 0
    page = (tmp_path / "compared.md").read_text()
    assert page in capsys.readouterr().out
    assert "| minilm, ratio 0.5 | 3 | 4 | +1.00 | -1.48 to +3.48 |" in page
    assert "| minilm, ratio 0.5 | sst2 | accuracy | 81.0 | 83.0 | +2.00 | 2 |" in page
    rows = pd.read_csv(tmp_path / "compared.csv")
    assert list(rows["task"]) == ["mrpc", "rte", "sst2", ALL]
    assert rows["difference"].tolist() == pytest.approx([0.01, 0.0, 0.02, 0.01])
    with pytest.raises(SystemExit):
        main([str(folder), "--by", "tune.lr", "--out", "x.txt"])


def with_predictions(folder, *answers, true=(1, 1, 1, 1, 0, 0, 0, 0)):
    """Two jobs that differ in the learning rate, with the predictions of both."""
    store(folder, [job(lr) for lr, _ in zip((0.1, 0.2), answers, strict=False)])
    for place, predicted in zip(sorted(folder.iterdir()), answers, strict=True):
        table = pd.DataFrame({"label": true, "predicted": predicted, "probability": 0.9})
        table.to_csv(place / PREDICTIONS, index=False)
    return folder


def test_one_task_is_compared_over_its_rows(tmp_path):
    folder = with_predictions(tmp_path / "a", (0, 0, 0, 1, 0, 0, 0, 1), (1, 1, 1, 1, 0, 0, 1, 1))
    rows = compare.compare(compare.load([str(folder)]), "tune.lr", ("0.1", "0.2"))
    (mean,) = rows[rows["task"] == ALL].to_dict("records")
    # Three rows that only the second has right, one that only the first has: 5 of 8 splits.
    assert (mean["over"], mean["p"]) == ("rows", pytest.approx(0.625))
    assert -0.3 < mean["low"] < 0.25 < mean["high"] < 0.8
    page = compare.page(rows, "tune.lr", "metric/final")
    assert "over rows" in page and "| 0.625 |" in page
    selected = compare.compare(compare.load([str(folder)]), "tune.lr", score="metric/pruned")
    assert set(selected["over"].dropna()) == {""}


def test_rows_that_are_not_the_same_are_not_compared(tmp_path):
    folder = with_predictions(tmp_path / "a", (0,) * 8, (1,) * 8)
    other = sorted(folder.iterdir())[1] / PREDICTIONS
    others = b"label,predicted\n" + b"0,1\n" * 8
    for content in (gzip.compress(others), gzip.compress(b"x\n1\n"), b"", b"damaged"):
        other.write_bytes(content)
        rows = compare.compare(compare.load([str(folder)]), "tune.lr")
        assert rows["low"].isna().all() and "over rows" not in compare.page(rows, "tune.lr", "x")


@pytest.mark.parametrize("labels", [2, 5])
def test_metrics_over_rows_are_those_of_a_job(labels):
    rng = np.random.default_rng(labels)
    true, predicted = rng.integers(0, labels, (2, 40))
    names = ["accuracy", "f1_macro", "matthews"] + ["f1"] * (labels == 2)
    task = TaskConfig("x", text=["s"], labels=[*map("class {}".format, range(labels))])
    task.metrics = names
    for guess in (predicted, np.ones(40, int)):
        expected = build_metrics(task)(torch.tensor(guess), torch.tensor(true))
        for name in names:
            assert score(name, guess, true, labels) == pytest.approx(expected[name].item())


def test_seeds_share_their_rows():
    true = np.arange(200) % 2
    one, other = true.copy(), true.copy()
    one[:20], other[:40] = 1 - one[:20], 1 - other[:40]
    # Wrong in 20 and in 40 rows, against none: 30 of 200 on average.
    low, high = by_rows.bootstrap(true, [one, other], [true, true], "accuracy", 0.95)
    assert 0.09 < low < 0.15 < high < 0.21
    assert by_rows.mcnemar(true, true, true) == 1
