"""What is measured and how it is told; never how long it takes here."""

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skip_exp import results
from skip_exp.commands.results import benchmark, retime
from skip_exp.config.schema import BenchmarkConfig
from skip_exp.models.surgery import cut, flops
from skip_exp.phases import measure as phase
from skip_exp.phases.measure import compare
from skip_exp.utils import timing
from skip_exp.utils.files import machine_lock
from skip_exp.utils.timing import interleave
from tests.helpers.tiny import tiny_model
from tests.pruning.test_surgery import KEEP

SETTINGS = BenchmarkConfig(enabled=True, batch=2, seq_len=6, repeats=4)


def test_calls_take_turns_without_garbage_collection_and_warm_up_is_not_counted() -> None:
    order: list[tuple[str, bool]] = []
    calls = [lambda name=name: order.append((name, gc.isenabled())) for name in "ab"]
    times = interleave(calls, repeats=2, warmup=1)
    assert order == [("a", False), ("b", False)] * 3 and gc.isenabled()
    assert [len(t) for t in times] == [2, 2]
    with pytest.raises(ZeroDivisionError):
        interleave([lambda: 1 / 0], repeats=1, warmup=0)
    assert gc.isenabled()


def test_fields_of_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = tiny_model()
    monkeypatch.setattr(phase, "interleave", lambda *_, **__: [[3.0] * 4, [1.0, 1.0, 2.0, 1.0]])
    monkeypatch.setattr(timing, "Load", lambda: type("Quiet", (), {"others": lambda _: 0.0})())
    found = compare(dense, cut(dense, KEEP), SETTINGS, "cpu")
    assert found["dense_ms"] == 3000
    assert found["final_ms"] == 1000
    assert (found["speedup"], found["spread"], found["contended"]) == (3.0, 0.5625, False)
    assert (found["batch"], found["seq_len"], found["dtype"]) == (2, 6, "float32")
    monkeypatch.setattr(timing, "Load", lambda: type("Busy", (), {"others": lambda _: 0.9})())
    monkeypatch.setattr(timing, "free_cores", lambda threads: 0)
    assert compare(dense, dense, SETTINGS, "cpu")["contended"] is True


def test_flops_of_linears_and_attention() -> None:
    """Two per weight and token, and two per score and per weighted value."""
    model = tiny_model()
    tokens, keys = 6, 6 + 4
    linears = sum(linear.weight.numel() for block in model.blocks() for linear in block.linears())
    attention = 2 * 2 * (2 * 24 * tokens * keys)  # layers x (scores, values) x 2 H T S
    readout = 2 * 24 * 3
    assert flops(model, tokens) == 2 * tokens * linears + attention + readout


def test_a_measurement_beside_a_busy_process_is_contended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "free_cores", lambda threads: 0)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            assert timing.alone(lambda: time.sleep(0.5)) == (None, True)
        finally:
            busy.kill()


def test_measurements_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    order: list[str] = []
    other = threading.Thread(target=lambda: timing.alone(lambda: order.append("second")))
    with machine_lock("benchmark"):
        other.start()
        time.sleep(0.2)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def finished(
    folder: Path, monkeypatch: pytest.MonkeyPatch, accelerator: str = "auto", **fields: Any
) -> Path:
    """The result file of a finished job, whose models nothing loads."""
    skill = SimpleNamespace(model=None, about=None, tokenizer=None)
    monkeypatch.setattr(phase.Skill, "load", lambda _: skill)
    monkeypatch.setattr(phase, "whole_model", lambda *_: None)
    config = {"benchmark": SETTINGS.__dict__, "trainer": {"accelerator": accelerator}}
    return results.write(folder, results.Result(skill="skill", config=config, **fields))


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (False, False, 2.0),
        (True, False, 2.0),
        (True, True, 2.0),
        (False, True, 1.0),  # what was measured on a quiet machine is not given up
    ],
)
def test_timing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool, after: bool, kept: float
) -> None:
    latency = {"speedup": 1.0, "contended": before}
    file = finished(tmp_path, monkeypatch, latency=latency)
    new = {"speedup": 2.0, "contended": after}
    monkeypatch.setattr(phase, "compare", lambda *_: new)
    told = retime(file)
    assert told == results.load(file)[0]["latency"] and told["speedup"] == kept


@pytest.mark.parametrize(("accelerator", "device"), [("cpu", "cpu"), ("auto", "cuda")])
def test_a_job_is_timed_where_it_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: str, device: str
) -> None:
    file, asked = finished(tmp_path, monkeypatch, accelerator), list[str]()
    monkeypatch.setattr(timing, "best_device", lambda: "cuda")
    monkeypatch.setattr(
        phase, "compare", lambda *given: asked.append(given[3]) or {"contended": False}
    )
    retime(file)
    assert asked == [device]


def test_failed_jobs_in_a_folder_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = results.write(tmp_path / "a", results.Result(job_id="a", status="done"))
    results.write(tmp_path / "b", results.Result(job_id="b", status="failed"))
    timed: list[Path] = []
    latency = results.Latency(contended=False, dense_ms=2, final_ms=1, speedup=2, spread=0)
    retimed = "skip_exp.commands.results.retime"
    monkeypatch.setattr(retimed, lambda file: timed.append(file) or latency)
    assert benchmark([str(tmp_path)]) == 0
    assert timed == [done]
