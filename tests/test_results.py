import json
import logging
import math

import numpy as np
import pytest

from skip_exp import results
from skip_exp.config.schema import method_name
from skip_exp.errors import SkipError
from skip_exp.results import Result


def done(job_id="a", **fields):
    given = {
        "task": "rte",
        "backbone": "minilm",
        "seed": 1,
        "attribution": "activation_gradient",
        "ratio": 0.5,
        "data_source": "local:/data",
        "metric": {"name": "accuracy", "dense": 0.6, "pruned": 0.55, "final": 0.5949},
        "params": {"block_pruned": 0.5, "all_pruned": 0.234},
        "latency": {"speedup": 1.949, "contended": False},
    }
    return results.new(job_id=job_id, **given | fields)


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


def test_new_gives_every_field_a_value_of_its_own():
    assert results.new().keys() == Result.__annotations__.keys() - {"path"}
    assert results.new()["schema"] == results.SCHEMA
    assert results.new()["error"] is None
    results.new()["seconds"]["tune"] = 1.0  # type: ignore[index]
    assert results.new()["seconds"] == {}
    with pytest.raises(TypeError, match="speed"):
        results.new(speed=2)


def test_the_first_layers_of_a_backbone_are_one_of_their_own():
    for layers, expected in ((None, "minilm"), (1, "minilm[1 layer]"), (3, "minilm[3 layers]")):
        backbone = CONFIG["backbone"] | {"layers": layers}
        assert results.from_config(CONFIG | {"backbone": backbone})["backbone"] == expected


def test_write_then_load_is_the_same_plus_its_path(tmp_path):
    path = results.write(tmp_path / "deep" / "job", done())
    assert path == tmp_path / "deep" / "job" / "result.json"
    assert results.load(tmp_path) == [done() | {"finished": results.load(path)[0]["finished"]}
                                      | {"path": str(path)}]  # fmt: skip
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


def test_written_json_is_strict(tmp_path):
    odd = {"nan": math.nan, "np": np.float32(0.5), "array": np.arange(2), "at": tmp_path}
    path = results.write(tmp_path, done(metrics=odd))
    stored = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert stored["metrics"] == {"nan": None, "np": 0.5, "array": [0, 1], "at": str(tmp_path)}


@pytest.mark.parametrize("fields", [{}, {"schema": 9}])
def test_a_done_result_is_kept_from_other_jobs(tmp_path, caplog, fields):
    content = json.dumps(done("a", seed=1) | fields)
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(SkipError, match=r"^output_dir="):
        results.write(tmp_path, done("b"))
    results.write_failed(tmp_path, CONFIG, "upload failed")
    assert (tmp_path / "result.json").read_text() == content
    assert "upload failed" in caplog.text
    results.write(tmp_path, done("a", seed=2))
    assert [r["seed"] for r in results.load(tmp_path)] == [2]


@pytest.mark.parametrize("before", ["", "{", '{"status": "failed", "job_id": "z"}'])
def test_what_is_not_done_is_overwritten(tmp_path, before):
    (tmp_path / "result.json").write_text(before)
    results.write(tmp_path, done())
    assert results.load(tmp_path)[0]["job_id"] == "a"


def test_failed_result_tells_what_the_config_tells(tmp_path):
    results.write_failed(tmp_path, CONFIG, "prune.ratio=0.9:\n  too much")
    found = results.load(tmp_path)[0]
    expected = {
        "status": "failed",
        "error": "prune.ratio=0.9: too much",
        "sweep": "sweep-1",
        "task": "rte",
        "backbone": "minilm",
        "family": "bert",
        "readout": "head",
        "seed": 3,
        "prompt": {"kind": "prefix", "length": 16, "init": "vocab"},
        "attribution": "activation_gradient",
        "ratio": 0.9,
        "method": {"sites": ["ffn"], "allocation": "global"},
        "data_source": "local",
        "config": CONFIG,
    }
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("ratio", ["auto", "abc", None, [0.5], "???"])
def test_failed_result_of_a_config_that_tells_little(tmp_path, ratio):
    results.write_failed(tmp_path, {"task": None, "prune": {"ratio": ratio}}, "no task")
    (found,) = results.load(tmp_path)
    assert (found["status"], found["task"], found["ratio"]) == ("failed", None, None)
    assert found["config"]["prune"]["ratio"] == ratio


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SkipError, match=r"output_dir=.*/file/job: "):
        results.write(tmp_path / "file" / "job", done())


def test_load_skips_the_unreadable_in_one_line(tmp_path, caplog):
    results.write(tmp_path / "b", done("b"))
    results.write(tmp_path / "a", done("a"))
    for name, content in {"c": "{", "d": "[]", "e": "{}"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        found = results.load([tmp_path, tmp_path / "a", tmp_path / "missing.json"])
    assert [r["job_id"] for r in found] == ["a", "b"]
    assert len(caplog.records) == 1
    assert all(f"/{name}/result.json" in caplog.text for name in "cde")
    assert "missing.json" in caplog.text


def test_results_of_earlier_versions_load(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps(done("a") | {"select_crossfit": {"a": "b"}}))
    assert [r["job_id"] for r in results.load(tmp_path)] == ["a"]


ODD = {  # field: a value that no job writes, and the name in the warning
    "ratio": ("x", "ratio"),
    "metric": ("x", "metric"),
    "seed": ([1], "seed"),
    "status": ("killed", "status"),
    "task": ({}, "task"),
    "seconds": ({"tune": "1 s"}, "seconds.tune"),
    "n_eval": (10**400, "n_eval"),
    "ratio_reached": (10**400, "ratio_reached"),
    "reused": (1, "reused"),
    "method": ({"sites": [3]}, "method.sites.0"),
    "keep_sizes": ({"encoder.0.ffn": [9, 8]}, "keep_sizes.encoder.0.ffn"),
    "schema": (9, "schema"),
}


@pytest.mark.parametrize("field", ODD)
def test_load_skips_what_no_job_writes_and_names_the_field(tmp_path, caplog, field):
    results.write(tmp_path / "healthy", done("a"))
    value, name = ODD[field]
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/result.json").write_text(json.dumps(done("b") | {field: value}))
    assert [r["job_id"] for r in results.load(tmp_path)] == ["a"]
    (record,) = caplog.records
    message = record.getMessage()
    assert f"odd/result.json ({name}" in message and len(message) < 300 and "\n" not in message


def test_a_key_that_stands_there_twice_is_not_read(tmp_path, caplog):
    content = json.dumps(done("a"))
    (tmp_path / "result.json").write_text(content[:-1] + ', "seed": 7}')
    assert results.load(tmp_path) == []


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("skip_exp.attribution.random.scores", "random"),
        ("skip_exp.attribution.activation_gradient", "activation_gradient"),
        ("mine.random.scores", "mine.random.scores"),  # not the control
        ("taylor.scores", "taylor.scores"),
        ("", None),
        (None, None),
    ],
)
def test_attribution_name(target, name):
    assert method_name(target) == name


def test_flatten():
    flat = results.flatten(
        {
            "status": "done",
            "error": None,
            "metric": {"name": "f1", "final": 0.5},
            "metrics": {"extra": {"mm": {"f1": {"dense": 0.1}}}},
            "keep_sizes": {"encoder.0.ffn": [8, 16]},
            "method": {"sites": ["ffn", "heads"]},
            "config": {"seed": 1},
            "path": "x",
        }
    )
    assert flat == {
        "status": "done",
        "metric/name": "f1",
        "metric/final": 0.5,
        "metrics/extra/mm/f1/dense": 0.1,
        "keep_sizes/encoder.0.ffn/kept": 8,
        "keep_sizes/encoder.0.ffn/of": 16,
        "method/sites": "ffn+heads",
    }


def test_a_contended_timing_is_no_speedup_in_wandb():
    latency = {"speedup": 1.2, "contended": True, "final_ms": 3.0}
    assert results.flatten({"latency": latency}).keys() == {"latency/contended", "latency/final_ms"}
    assert results.flatten({"latency": latency | {"contended": False}})["latency/speedup"] == 1.2
