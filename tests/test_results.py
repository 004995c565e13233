import json
import logging
import math
from pathlib import Path

import pytest

from skip_exp.config.schema import method_name
from skip_exp.errors import SkipError
from skip_exp.results import Latency, MainScores, Result, flatten, load, write, write_failed

CONFIG = {
    "task": {"name": "rte"},
    "backbone": {"name": "minilm", "family": "bert", "readout": "head"},
    "prompt": {"kind": "prefix", "length": 16, "init": "vocab"},
    "attribution": {"_target_": "skip_exp.attribution.activation_gradient.scores"},
    "prune": {"ratio": 0.9, "sites": ["ffn"], "allocation": "global"},
    "data": {"source": "local"},
    "sweep": {"id": "sweep-1"},
    "seed": 3,
}


def done(job_id: str = "a", **fields) -> Result:
    metric = MainScores(name="accuracy", dense=0.6, pruned=0.55, final=0.5949)
    return Result(
        job_id=job_id, **{"task": "rte", "ratio": 0.5, "seed": 1, "metric": metric} | fields
    )


def put(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "result.json").write_text(content)


def test_what_is_written_is_loaded(tmp_path):
    result = done(
        latency=Latency(speedup=2.0),
        config={"train_rows": None},
        keep_sizes={"encoder.0.ffn": [1, 2]},
    )
    path = write(tmp_path / "deep" / "job", result)
    (loaded,) = load(tmp_path)
    assert loaded.path == str(path) and loaded.to_dict() == result.to_dict()
    assert loaded["metric"]["final"] == loaded.metric.final == 0.5949
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


def test_a_number_that_json_has_not_is_unknown(tmp_path):
    path = write(tmp_path, done(metric={"final": math.nan}, metrics={"f1": math.inf}))
    stored = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert stored["metric"]["final"] is stored["metrics"]["f1"] is None


@pytest.mark.parametrize("fields", [{}, {"schema": 9}])
def test_a_done_result_is_kept_from_other_jobs(tmp_path, caplog, fields):
    content = json.dumps(done("a").to_dict() | fields)
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(SkipError, match=r"^output_dir="):
        write(tmp_path, done("b"))
    write_failed(tmp_path, CONFIG, "upload failed")
    assert (tmp_path / "result.json").read_text() == content and "upload failed" in caplog.text
    write(tmp_path, done("a", seed=2))
    assert [result.seed for result in load(tmp_path)] == [2]


@pytest.mark.parametrize("before", ["", "{", '{"status": "failed", "job_id": "z"}'])
def test_what_is_not_done_is_overwritten(tmp_path, before):
    (tmp_path / "result.json").write_text(before)
    write(tmp_path, done())
    assert load(tmp_path)[0].job_id == "a"


def test_failed_result_tells_what_the_config_tells(tmp_path):
    write_failed(tmp_path, CONFIG, "prune.ratio=0.9:\n  too much")
    found = load(tmp_path)[0].to_dict()
    expected = {
        "status": "failed",
        "error": "prune.ratio=0.9: too much",
        "sweep": "sweep-1",
        "task": "rte",
        "backbone": "minilm",
        "seed": 3,
        "attribution": "activation_gradient",
        "ratio": 0.9,
        "data_source": "local",
        "config": CONFIG,
    }
    assert {key: found[key] for key in expected} == expected
    assert found["finished"] and found["versions"]["code"]


@pytest.mark.parametrize("value", ["auto", "abc", None, [0.5], "???"])
def test_failed_result_of_a_config_that_tells_little(tmp_path, value):
    config = {"task": None, "prune": {"ratio": value}}
    write_failed(tmp_path, config, "no task")
    (found,) = load(tmp_path)
    assert (found.status, found.task, found.ratio) == ("failed", None, None)
    assert found.config == config


def test_load_skips_the_unreadable_in_one_line(tmp_path, caplog):
    write(tmp_path / "b", done("b"))
    write(tmp_path / "a", done("a"))
    half = done("a").model_dump_json()[:99]
    odd = json.dumps(done("b").to_dict() | {"ratio": "x"})
    for name, content in {"c": "{", "d": "[]", "e": "{}", "f": half, "g": odd}.items():
        put(tmp_path / name, content)
    with caplog.at_level(logging.WARNING):
        found = load([tmp_path, tmp_path / "a", tmp_path / "missing.json"])
    assert [result.job_id for result in found] == ["a", "b"]
    (record,) = caplog.records
    assert all(f"/{name}/result.json" in record.getMessage() for name in "cdefg")
    assert "missing.json" in record.getMessage()


def test_attribution_name():
    assert method_name("skip_exp.attribution.random.scores") == "random"
    assert method_name("mine.random.scores") == "mine.random.scores"  # not the control
    assert method_name("") is method_name(None) is None


def test_flatten():
    result = Result(
        metric=MainScores(name="f1", final=0.5),
        metrics={"extra": {"mm": {"f1": {"dense": 0.1}}}},
        keep_sizes={"encoder.0.ffn": [8, 16]},
        config={"seed": 1},
        path="x",
    )
    assert flatten(result) == {
        "data_is_sample": False,
        "finished": "",
        "job_id": "",
        "schema": 1,
        "status": "done",
        "metric/name": "f1",
        "metric/final": 0.5,
        "metrics/extra/mm/f1/dense": 0.1,
        "keep_sizes/encoder.0.ffn/kept": 8,
        "keep_sizes/encoder.0.ffn/of": 16,
    }


def test_a_contended_timing_is_left_out():
    timing = {"dense_ms": 6.0, "final_ms": 5.0, "speedup": 1.2, "device": "CPU"}
    loud, quiet = (done(latency=Latency(**timing, contended=is_so)) for is_so in (True, False))
    assert [name for name in flatten(loud) if name.startswith("latency/")] == ["latency/contended"]
    assert flatten(quiet)["latency/speedup"] == 1.2 and flatten(quiet)["latency/final_ms"] == 5.0


def test_results_in_hidden_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("job", ".trash", "job/.old"):
        write(tmp_path / name, done())
    assert [Path(str(result.path)).parent.name for result in load(tmp_path)] == ["job"]
