import pandas as pd
import pytest

from skip_exp.errors import SkipError
from skip_exp.report import frame
from skip_exp.results import Result
from tests.helpers.fakes import failed, result, store


def rows(found):
    return frame.rows(map(Result.model_validate, found))


def variants(found):
    return frame.variants(rows(found))


def test_a_row_per_result_with_nested_fields_flattened():
    latency = {"speedup": 2.0, "contended": False, "device": "cpu", "threads": 2}
    (row,) = rows([result(latency=latency)]).to_dict("records")
    assert (row["task"], row["seed"], row["ratio"], row["data"]) == ("sst2", 1, 0.5, "local")
    assert row["metric"] == "accuracy" and row["metric/dense"] == result()["metric"]["dense"]
    assert (row["latency/speedup"], row["latency/threads"], row["timed"]) == (2.0, 2.0, True)
    assert (row["config/tune.lr"], row["config/prune.sites"]) == ("0.005", "ffn+heads")
    assert not (row["sample"] or row["searched"] or row["contended"])


def test_what_is_not_known_is_empty_or_nan():
    row = rows([failed()]).iloc[0]
    assert row["metric"] == row["backbone_note"] == row["git_commit"] == ""
    assert pd.isna(row["metric/final"]) and pd.isna(row["latency/speedup"]) and not row["timed"]
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
