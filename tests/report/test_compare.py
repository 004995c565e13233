"""Paired comparisons, by hand-worked numbers."""

from dataclasses import asdict

import pandas as pd
import pytest
from skip_exp.config.decide import decided

from skip_exp import results
from skip_exp.commands.compare import main
from skip_exp.config.compose import composed
from skip_exp.config.together import job_config
from skip_exp.errors import SkipError
from skip_exp.report import compare
from skip_exp.report.compare import ALL, interval
from tests.helpers.fakes import failed, result, store

# Per task and seed the final scores of A and B.
FINALS = {
    "sst2": {1: (0.80, 0.83), 2: (0.82, 0.83)},  # differences 3 and 1: 2 points
    "rte": {1: (0.60, 0.60)},  # 0 points
    "mrpc": {1: (0.70, 0.71)},  # 1 point
}


def job(value, task="sst2", seed=1, final=0.8, key="lr", **fields):
    config = {"task": {"name": task}, "tune": {key: value, "epochs": 3}, "seed": seed}
    metric = {"name": "accuracy", "dense": 0.9, "pruned": 0.5, "final": final}
    given = {"config": config, "metric": metric, "job_id": f"{task}-{seed}-{value}-{fields}"}
    return result(task, seed=seed, **given | fields)


@pytest.fixture
def folder(tmp_path):
    found = [
        job(value, task, seed, final)
        for task, seeds in FINALS.items()
        for seed, finals in seeds.items()
        for value, final in zip((0.1, 0.2), finals, strict=True)
    ]
    return store(tmp_path / "jobs", found)


def compared(folder, by="tune.lr", values=("0.1", "0.2"), score="metric/final"):
    return compare.compare(compare.load([str(folder)]), by, values, score)


def test_seeds_are_averaged_before_tasks(folder):
    rows = compared(folder)
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


def test_the_first_value_is_the_baseline_else_the_commonest(folder):
    turned = compared(folder, values=("0.2", "0.1"))
    assert turned.loc[turned["task"] == ALL, "difference"].item() == pytest.approx(-0.01)
    store(folder / "more", [job(0.2, "cola", final=0.3)])
    assert set(compared(folder, values=())["baseline"]) == {"0.2"}


@pytest.mark.parametrize(("group", "key"), [("tune", "epochs"), ("task", "words")])
def test_jobs_that_differ_in_another_key_are_no_pair(tmp_path, group, key):
    found = [job(0.1), job(0.2)]
    for one, value in zip(found, (["a", "b"], ["c", "d"]), strict=True):
        one["config"][group][key] = value
    with pytest.raises(SkipError):
        compared(store(tmp_path, found))


def test_a_prompt_that_follows_from_what_is_compared_still_pairs(tmp_path):
    def trained(train, length, final):
        one = job(train, key="train", final=final, job_id=f"{train}-{length}")
        return one | {"config": one["config"] | {"prompt": {"length": length}}}

    pairs = [trained("lora", 4, 0.8), trained("prompt_readout", 16, 0.7)]
    rows = compared(store(tmp_path / "a", pairs), "tune.train", ())
    assert abs(rows.loc[rows["task"] == ALL, "difference"].item()) == pytest.approx(0.1)
    more = [*pairs, trained("lora", 8, 0.9)]  # here the length was chosen: it must agree
    with pytest.raises(SkipError):
        compared(store(tmp_path / "b", more), "tune.train", ())


def test_results_on_other_rows_are_no_pair_unless_the_task_is_compared(tmp_path):
    folder = store(tmp_path, [job(0.1, data_hash="a"), job(0.2, data_hash="b")])
    with pytest.raises(SkipError):
        compared(folder)
    found = [job(0.1, data_hash="a"), job(0.1, data_hash="b", job_id="other")]
    for one, text in zip(found, ("title", "title+body"), strict=True):
        one["config"]["task"]["text"] = text
    rows = compared(store(tmp_path / "texts", found), "task.text", ())
    assert list(rows["pairs"]) == [1, 1]


def test_another_start_is_another_setting_unless_the_key_decides_it(tmp_path):
    both = [job(0.1, start="skip_exp/nli"), job(0.2, final=0.9)]
    (row, _) = compared(store(tmp_path / "a", both)).to_dict("records")
    assert row["difference"] == pytest.approx(0.1)  # tune.lr
    config = [{"prompt": {"length": length}, "task": {"name": "sst2"}} for length in (4, 16)]
    lengths = [job(0.1, config=one, job_id=str(one)) for one in config]
    lengths[1]["start"] = "skip_exp/nli"
    with pytest.raises(SkipError):
        compared(store(tmp_path / "b", lengths), "prompt.length", ())


def test_tasks_have_rows_and_decided_settings_of_their_own(tmp_path):
    """One mean over both tasks, though one has few rows."""
    found = [
        of_rows(
            rows, f"+task={task}", f"attribution={method}", task=task, data_hash=task, seed=seed
        )
        | {"metric": {"name": "accuracy", "final": score}, "job_id": f"{task}-{method}-{seed}"}
        for task, rows in (("sst2", 5000), ("cola", 300))
        for method, score in (("magnitude", 0.8), ("taylor", 0.7))
        for seed in (1, 2)
    ]
    rows = compared(store(tmp_path, found), "attribution", ("magnitude", "taylor"))
    (mean,) = rows[rows["task"] == ALL].to_dict("records")
    assert (mean["setting"], mean["pairs"], len(rows)) == ("", 4, 3)
    assert mean["low"] == pytest.approx(-0.1)


def test_a_decided_key_that_was_chosen_counts_in_every_task(tmp_path):
    found = [
        of_rows(
            5000, f"+task={task}", f"prompt.length={length}", f"attribution={method}", task=task
        )
        | {"metric": {"name": "accuracy", "final": score}, "job_id": f"{task}{method}{length}"}
        for task, lengths in (("sst2", (4, 8)), ("cola", (8,)))
        for length in lengths
        for method, score in (("magnitude", 0.8), ("taylor", 0.7))
    ]
    rows = compared(store(tmp_path, found), "attribution", ("magnitude", "taylor"))
    means = rows[rows["task"] == ALL].set_index("setting")["pairs"].to_dict()
    assert means == {"prompt.length=4": 1, "prompt.length=8": 2}


def test_stand_ins_alone_are_no_comparison(tmp_path):
    found = [job(value, data_is_sample=True) for value in (0.1, 0.2)]
    with pytest.raises(SkipError, match="its own task"):
        compared(store(tmp_path, found))


BANKING = "+task=banking77"  # without words of its own


def of_rows(rows, *overrides, start=None, **fields):
    """A result with the settings that a job decides by its rows and its start."""
    cfg = decided(job_config(composed("config", overrides)), rows, start)
    fields = {"start": "nli" if start else None, "job_id": str((overrides, rows))} | fields
    return result(**{**results.from_config(asdict(cfg)), **fields})


@pytest.mark.parametrize(
    ("by", "one", "other"),
    [
        ("tune.start", ["+task=rte", "tune.start=auto"], ["+task=rte", "tune.start=null"]),
        ("prompt", ["+task=sst2"], ["+task=sst2", "prompt=none"]),
        ("prompt", ["+task=rte", "prompt.length=4"], ["+task=rte", "prompt=none"]),
        ("prompt.kind", ["+task=sst2"], ["+task=sst2", "prompt=none"]),
        ("backbone", [BANKING], [BANKING, "backbone=t5_mini", "backbone.readout=seq2seq"]),
        (
            "backbone.readout",
            [BANKING, "backbone=t5_mini", "backbone.readout=head"],
            [BANKING, "backbone=t5_mini", "backbone.readout=seq2seq"],
        ),
    ],
)
def test_what_a_job_decides_by_the_key_does_not_part_a_pair(tmp_path, by, one, other):
    starts = 4 if {"tune.start=auto", "prompt.length=4"} & {*one} else None, None
    found = [
        of_rows(500, *given, start=start, task="rte", metric={"name": "accuracy", "final": score})
        for given, start, score in zip((one, other), starts, (0.8, 0.7), strict=True)
    ]
    rows = compared(store(tmp_path, found), by, ())
    assert rows["difference"].abs().tolist() == pytest.approx([0.1, 0.1])


def test_no_task_is_left_out_where_jobs_decide_by_it(tmp_path):
    found = []
    for task, start in (("rte", 4), ("sst2", None), ("mrpc", None)):
        found += [of_rows(5000, f"+task={task}", start=start)]
        found += [of_rows(500, f"+task={task}", "data.train_rows=500", start=start)]
    rows = compared(store(tmp_path / "a", found), "data.train_rows", ())
    assert set(rows["task"]) == {"rte", "sst2", "mrpc", ALL}
    assert rows.loc[rows["task"] == ALL, "pairs"].tolist() == [3]
    odd = [job(0.1), job(0.2), job(0.1, "rte"), job(0.2, "rte")]
    odd[3]["config"]["tune"]["epochs"] = 9
    page = compare.page(compared(store(tmp_path / "b", odd)), "tune.lr", "metric/final")
    assert "Without a pair: rte." in page and page.count("\n## ") == 1
    third = [*odd[:3], job(0.2, "rte"), job(0.3)]
    page = compare.page(
        compared(store(tmp_path / "c", third), values=()), "tune.lr", "metric/final"
    )
    assert "Without a pair" not in page
    own = of_rows(5000, "+task=sst2", "tune.train=prompt_readout", "retune.copies=0", "retune.lr=1")
    with pytest.raises(SkipError):  # what was set apart by hand is no decision
        compared(store(tmp_path / "d", [of_rows(5000, "+task=sst2"), own]), "tune.train", ())


def test_an_option_is_named_as_the_table_names_it(tmp_path):
    found = [job(0.1, backbone=name) for name in ("minilm", "minilm[3 layers]")]
    found += [job(0.1, config={"attribution": {"samples": n}}, job_id=str(n)) for n in (32, 256)]
    jobs = str(store(tmp_path, found))
    assert main([jobs, "--by", "backbone=minilm,'minilm[3 layers]'"]) == 0
    few = "'activation_gradient, attribution.samples=32'"
    many = "'activation_gradient, attribution.samples=256'"
    assert main([jobs, "--by", f"attribution={few},{many}"]) == 0


def test_pairs_of_different_code_are_told(tmp_path):
    mixed = [job(0.1, versions={"code": "old"}), job(0.2, versions={"code": "new"})]
    same = [job(value, "rte", versions={"code": "old"}) for value in (0.1, 0.2)]
    rows = compared(store(tmp_path / "jobs", [*mixed, *same]))
    assert rows.set_index("task")["mixed"].to_dict() == {"sst2": 1, "rte": 0, ALL: 1}
    assert compare.MIXED.format(1) in compare.page(rows, "tune.lr", "metric/final")


def test_options_of_one_method_alone_do_not_part_a_pair(tmp_path):
    ours = job(0.1, config={"attribution": {"tokens": "sum", "samples": 9}})
    random = job(0.1, attribution="random", config={"attribution": {"samples": 9}}, final=0.7)
    (row, _) = compared(store(tmp_path, [ours, random]), "attribution", ()).to_dict("records")
    assert {row["baseline"], row["option"]} == {"activation_gradient", "random"}


def test_a_group_is_compared_by_all_that_differs_in_it(tmp_path):
    paper = {"config": {"attribution": {"options": {"tokens": "max"}, "samples": 20}}, "final": 0.7}
    ours = {"config": {"attribution": {"options": {"tokens": "sum"}, "samples": 256}}, "final": 0.8}
    control = {"config": {"attribution": {"options": {}, "samples": 256}}, "attribution": "random"}
    found = [job(0.1, "cola", 2, job_id="a", **ours)]
    found += [job(0.1, job_id=str(i), **more) for i, more in enumerate((ours, paper, control))]
    rows = compared(store(tmp_path, found), "attribution", ())
    assert set(rows["baseline"]) == {
        "activation_gradient, attribution.options.tokens=sum, attribution.samples=256"
    }
    assert set(rows["option"]) == {
        "activation_gradient, attribution.options.tokens=max, attribution.samples=20",
        "random",
    }


def test_further_settings_are_rows_of_their_own(tmp_path):
    found = []
    for epochs in (3, 9):
        for value, final in ((0.1, 0.8), (0.2, 0.8 + epochs / 100)):
            one = job(value, final=final, job_id=f"{epochs} {value}")
            one["config"]["tune"]["epochs"] = epochs
            found.append(one)
    rows = compared(store(tmp_path, found))
    means = rows[rows["task"] == ALL].set_index("setting")["difference"]
    assert means.to_dict() == pytest.approx({"tune.epochs=3": 0.03, "tune.epochs=9": 0.09})


def test_ratios_and_backbones_are_compared_too(tmp_path):
    found = [job(0.1, ratio=ratio, final=1 - ratio) for ratio in (0.3, 0.5)]
    rows = compared(store(tmp_path / "a", found), "prune.ratio", ("0.3", "0.5"))
    assert rows["difference"].tolist() == pytest.approx([-0.2, -0.2]) and rows["ratio"].isna().all()
    found = [job(0.1, backbone=name, final=0.8) for name in ("minilm", "t5_mini")]
    rows = compared(store(tmp_path / "b", found), "backbone", ())
    assert rows["difference"].tolist() == [0.0, 0.0] and set(rows["backbone"]) == {""}


def test_a_search_is_a_value_of_the_ratio(tmp_path):
    def searched(seed, drop, final):
        one = job(0.1, ratio=0.4 + seed / 10, seed=seed, final=final)
        one["config"]["prune"] = {"ratio": "auto", "max_drop": drop}
        one["method"] |= {"max_drop": drop}
        return one

    found = [job(0.1, ratio=0.5, seed=seed, final=0.8) for seed in (1, 2)]
    found += [searched(seed, 1.0, 0.7) for seed in (1, 2)]
    rows = compared(store(tmp_path / "one", found), "prune.ratio", ("0.5", "auto"))
    assert rows["difference"].tolist() == pytest.approx([-0.1, -0.1])
    assert set(rows["option"]) == {"found"}
    found.append(searched(1, 5.0, 0.6))  # another goal is another value
    rows = compared(store(tmp_path / "two", found), "prune.ratio", ())
    means = rows[rows["task"] == ALL].set_index("option")["difference"]
    assert sorted(means.round(6)) == [-0.2, -0.1] and all(
        "max_drop" in name for name in means.index
    )


def test_a_job_that_newer_code_ran_again_is_one_job_of_its_folder(tmp_path):
    again = job(0.1, final=0.9, versions={"code": "newer"}, finished="2026-01-01T00:00:00+00:00")
    one = store(tmp_path / "one", [job(0.1, final=0.8), again])
    two = store(tmp_path / "two", [job(0.2, final=0.7)])
    rows = compare.compare(compare.load([str(one), str(two)]), "folder", [str(one), str(two)])
    assert rows["difference"].tolist() == pytest.approx([-0.2, -0.2])


def test_whole_folders_are_compared_whatever_their_settings(tmp_path):
    one = store(tmp_path / "one", [job(0.1, final=0.8)])
    two = store(tmp_path / "two", [job(0.2, final=0.7, attribution="random")])
    loaded = compare.load([str(one), str(two)])
    rows = compare.compare(loaded, "folder", [str(one), str(two)])
    assert rows["difference"].tolist() == pytest.approx([-0.1, -0.1])
    store(two / "more", [job(0.3)])
    with pytest.raises(SkipError):
        compare.compare(compare.load([str(one), str(two)]), "folder", [str(one), str(two)])


def test_generated_rows_and_failures_are_left_out(tmp_path):
    found = [job(0.1, final=0.8), job(0.2, final=0.9)]
    found += [job(0.1, "rte", data_is_sample=True), job(0.2, "rte", data_is_sample=True)]
    found += [failed(task="mrpc"), job(0.1, "cola", final=None), job(0.2, "cola")]
    assert set(compared(store(tmp_path, found))["task"]) == {"sst2", ALL}


@pytest.mark.parametrize("asked", ["prune.allocation", "tune.lr=0.1,0.3", "tune.epochs"])
def test_what_cannot_be_compared_is_one_line(folder, capsys, asked):
    assert main([str(folder), "--by", asked]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"--by {asked.partition('=')[0]}" in error
    assert main([str(folder), "--by", "tune.lr=[0.1"]) == 1
    assert capsys.readouterr().err.startswith("error: [0.1: ")


def test_values_are_read_as_hydra_reads_them(tmp_path, capsys):
    found = [job(["ffn"], key="sites", final=0.8), job(["ffn", "heads"], key="sites", final=0.9)]
    jobs = str(store(tmp_path / "jobs", found))
    assert main([jobs, "--by", "tune.sites=[ffn],[ffn,heads]"]) == 0
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
