import pandas as pd
import pytest
from rich.console import Console

from skip_exp.commands import compare
from skip_exp.errors import SkipError
from skip_exp.report import frame, tables
from skip_exp.report.cells import SEARCHED, front, gather, main_method, ratio_text
from skip_exp.results import Result
from tests.helpers.fakes import failed, frame_of, grid, result, store


def gathered(found):
    return gather(frame_of(found))


def only(found):
    report = gathered(found)
    assert len(report.cells) == 1
    return report.cells.iloc[0]


def test_a_cell_gathers_seeds_with_the_deviation_of_the_sample():
    found = [result(seed=s, params={"block_pruned": s}) for s in (1, 3)]
    cell = only([*found, result(seed=5, params={})])
    setting = tuple(cell[["task", "backbone", "attribution", "variant", "ratio"]])
    assert setting == ("sst2", "minilm", "activation_gradient", "", 0.5)
    assert (cell["n"], cell["metric"], cell["params/block_pruned mean"]) == (3, "accuracy", 2)
    assert cell["params/block_pruned std"] == pytest.approx(2**0.5)
    assert pd.isna(only(found[:1])["params/block_pruned std"])
    assert only([result(seed=1, ratio=0.3), result(seed=2, ratio=0.1 + 0.2)])["n"] == 2


def test_of_repeated_runs_the_latest_counts():
    old = result(n_eval=1, finished="2024-01-01T00:00:00+00:00")
    new = result(n_eval=2, finished="2024-01-02T00:00:00+00:00")
    for found in ([old, new], [new, old]):
        assert list(gathered(found).runs["n_eval"]) == [2]


def test_a_failure_counts_until_the_same_seed_is_done():
    found = [result(seed=1), failed(seed=2)]
    assert only(found)["n"] == 1 and list(gathered(found).failed["seed"]) == [2]
    found.append(result(seed=2, finished="2023-01-01T00:00:00+00:00"))
    assert only(found)["n"] == 2 and gathered(found).failed.empty


def test_a_setting_that_only_failed_is_no_cell():
    for found in (failed(), failed() | {"task": None}):  # before its task was known
        report = gathered([found])
        assert report.cells.empty and list(report.failed["backbone"]) == ["minilm"]


def test_stand_in_rows_are_a_cell_of_their_own():
    found = [result(seed=1), result(seed=1, data_is_sample=True)]
    cells = gathered(found).cells
    assert (list(cells["sample"]), list(cells["n"])) == ([False, True], [1, 1])


def test_contended_timings_are_no_speedup():
    quiet = result(seed=1, latency={"speedup": 2.0, "contended": False})
    loud = result(seed=2, latency={"speedup": 1.1, "contended": True})
    cell = only([quiet, loud])
    assert (cell["latency/speedup mean"], cell["contended"]) == (2.0, True)
    cell = only([loud])
    assert pd.isna(cell["latency/speedup mean"]) and cell["contended"]
    assert not only([result(latency={})])["contended"]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("tune.lr", ("0.1", "0.2")),
        ("backbone.path", ("embedded:minilm", "/models/mine")),
        ("task.words", (["no", "yes"], ["bad", "good"])),
        ("precision", ("bf16-mixed", "32-true")),
        ("data_hash", ("aaaa", "bbbb")),  # two data folders under one task's name
    ],
)
def test_what_changes_a_number_tells_cells_apart_wherever_results_are_shown(
    key, values, monkeypatch, capsys
):
    group, _, name = key.rpartition(".")

    def job(value, seed, **fields):
        config = {"task": {"name": "sst2"}, "trainer": {"precision": "auto"}, "tune": {}}
        config |= {group: {"name": result().get(group), name: value}} if group else {}
        return result(seed=seed, config=config, **fields | ({} if group else {name: value}))

    key = key if group else {"precision": "trainer.precision", "data_hash": "data.hash"}[name]
    texts = ["+".join(v) if isinstance(v, list) else v for v in values]
    variants = [f"{key}={text}" for text in texts]
    found = [job(value, seed) for value in values for seed in (1, 2)]
    cells = gathered(found).cells
    assert sorted(cells["variant"]) == sorted(variants) and list(cells["n"]) == [2, 2]
    monkeypatch.setattr(tables, "open_screen", lambda: Console(width=300))
    tables.show_jobs(list(map(Result.model_validate, found)))
    shown = capsys.readouterr().out
    assert all(variant in shown for variant in variants)
    pairs = compare.compare(frame_of(found), key, split="validation")
    assert set(pairs["option"]) | set(pairs["baseline"]) == set(texts)


def test_cells_of_several_code_versions_are_marked():
    def is_marked(*versions):
        return only([result(seed=i, versions=each) for i, each in enumerate(versions)])["versions"]

    old, new = ({"code": name} for name in ("old", "new"))
    assert is_marked(old, new) and not is_marked(old, old)
    assert not is_marked(old, {})  # not known
    assert is_marked(old | {"parts": "a"}, old | {"parts": "b"})


@pytest.mark.parametrize(
    ("name", "dense", "expected"),
    [
        ("accuracy", 0.599, True),
        ("accuracy", 0.601, False),
        ("matthews", 0.199, True),  # its majority is 0
        ("matthews", 0.201, False),
        ("f1", 0.599, True),
        ("f1_macro", 0.1, False),  # not known
    ],
)
def test_at_chance_is_two_standard_errors_of_the_majority(name, dense, expected):
    majority = {"accuracy": 0.9 if name == "matthews" else 0.5, "f1": 0.5}
    scores = {"metric": {"name": name, "dense": dense}}
    assert only([result(**scores, majority=majority, n_eval=100)])["at chance"] == expected


def test_main_method_is_never_the_control():
    found = [*grid(["sst2"], ["minilm"], [0.3]), result(attribution="random", ratio=0.9)]
    cells = gathered(found).cells
    assert set(cells.loc[main_method(cells), "attribution"]) == {"activation_gradient"}
    assert not main_method(gathered([result(attribution="random")]).cells).any()


def test_front():
    points = [(1.0, 80.0), (1.5, 81.0), (2.0, 79.0), (1.8, 70.0), (2.0, 60.0)]
    best = front(pd.DataFrame(points, columns=["x", "y"]))
    assert best.to_numpy().tolist() == [[1.5, 81.0], [2.0, 79.0]]
    assert front(best.head(0)).empty


def searched(ratio, seed=1, task="sst2", **goal):
    """The result of a job that searched for its ratio."""
    asked = {"ratio": 0.5, "within": None, "sites": ["ffn"]} | goal
    config = {"task": {"name": task}, "tune": {"lr": 0.005}, "prune": asked, "seed": seed}
    return result(task, ratio=ratio, seed=seed, config=config)


def test_seeds_that_found_different_ratios_are_one_cell():
    cell = only([searched(0.55, 1, within=1.0), searched(0.65, 2, within=1.0)])
    assert (cell["variant"], cell["ratio"]) == ("prune.within=1.0", SEARCHED)
    assert ratio_text(cell["ratio"]) == "found"
    assert cell["params/block_pruned mean"] == pytest.approx(0.6)
    broken = searched(0.5, 3, within=1.0) | {"status": "failed", "ratio": None, "error": "no"}
    cell = only([searched(0.5, 1, within=1.0), broken])
    assert cell["n"] == 1
    found = [searched(0.5, within=1.0), searched(0.5, within=2.0), searched(0.5)]
    assert sorted(gathered(found).cells["ratio"]) == [SEARCHED, SEARCHED, 0.5]


def rows(found):
    return frame.rows(map(Result.model_validate, found))


def variants(found):
    return frame.variants(rows(found))


def test_a_row_per_result_with_nested_fields_flattened():
    latency = {"speedup": 2.0, "contended": False, "device": "cpu", "threads": 2}
    (row,) = rows([result(latency=latency)]).to_dict("records")
    assert (row["task"], row["seed"], row["ratio"], row["data"]) == ("sst2", 1, 0.5, "local")
    assert row["metric"] == "accuracy" and row["metric/dense"] == result()["metric"]["dense"]
    assert (row["latency/speedup"], row["latency/threads"]) == (2.0, 2.0)
    assert (row["config/tune.lr"], row["config/prune.sites"]) == ("0.005", "ffn+heads")
    assert not (row["sample"] or row["searched"] or row["contended"])


def test_what_is_not_known_is_empty_or_nan():
    row = rows([failed()]).iloc[0]
    assert row["metric"] == row["backbone_note"] == row["git_commit"] == ""
    assert pd.isna(row["metric/final"]) and pd.isna(row["latency/speedup"])
    assert rows([failed() | {"seed": None}])["seed"].isna().all()


def test_comparable_leaves_out_what_does_not_change_the_numbers():
    config = {
        "task": {"name": "rte"},
        "backbone": {"name": "minilm", "pooling": "cls", "path": "embedded:minilm"},
        "logger": {"name": "wandb"},
        "sweep": {"skip_done": True},
        "seed": 1,
        "data": {"source": "local", "dir": "/x", "max_length": 128},
        "prune": {"ratio": 0.5, "sites": ["ffn", "heads"]},
        "attribution": {"_target_": "f", "samples": 256},
    }
    assert frame.comparable(config) == {
        "backbone.pooling": "cls",
        "backbone.path": "embedded:minilm",
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
    found = [result(config={"tune": {"lr": 0.1}}), result(config={"tune": {}}, seed=2)]
    assert variants(found) == ["", ""]  # a key that only one has


def test_results_on_few_train_rows_are_a_variant_of_their_own():
    few, every = (result(config={"data": {"train_rows": rows}}) for rows in (500, None))
    assert variants([few, result()]) == ["data.train_rows=500", ""]
    assert variants([few]) == ["data.train_rows=500"]
    assert variants([every]) == [""]


def test_a_path_that_is_missing_is_refused(tmp_path):
    found = store(tmp_path / "some", [result("sst2")])
    with pytest.raises(SkipError, match="nowhere: "):  # not left out beside another
        frame.load([found, tmp_path / "nowhere"])
    (folder := tmp_path / "none").mkdir()
    with pytest.raises(SkipError, match=r"no result\.json below"):
        frame.load([folder])
