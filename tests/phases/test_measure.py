"""What is measured and how it is told; never how long it takes here."""

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

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
