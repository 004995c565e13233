"""What is measured and how it is told; never how long it takes here."""

import pytest

from skip_exp import benchmark
from skip_exp.benchmark import BenchmarkSettings, compare, flops, interleave
from skip_exp.pruning.surgery import cut
from tests.pruning.test_surgery import KEEP
from tests.tiny import tiny_model

SETTINGS = BenchmarkSettings(enabled=True, batch=2, seq_len=6, repeats=4, warmup=1)


def test_calls_take_turns_and_warm_up_is_not_counted() -> None:
    order: list[str] = []
    times = interleave([lambda: order.append("a"), lambda: order.append("b")], repeats=2, warmup=1)
    assert order == ["a", "b"] * 3
    assert [len(t) for t in times] == [2, 2]


def test_fields_of_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = tiny_model()
    monkeypatch.setattr(benchmark, "interleave", lambda *_, **__: [[3.0] * 4, [1.0, 1.0, 2.0, 1.0]])
    monkeypatch.setattr(benchmark, "_Load", lambda: type("Quiet", (), {"others": lambda _: 0.0})())
    found = compare(dense, cut(dense, KEEP), SETTINGS, "cpu")
    assert found["dense_ms"] == 3000
    assert found["final_ms"] == 1000
    assert (found["speedup"], found["spread"], found["contended"]) == (3.0, 0.5625, False)
    assert (found["batch"], found["seq_len"], found["dtype"]) == (2, 6, "float32")
    monkeypatch.setattr(benchmark, "_Load", lambda: type("Busy", (), {"others": lambda _: 0.9})())
    assert compare(dense, dense, SETTINGS, "cpu")["contended"] is True


def test_flops_of_linears_and_attention() -> None:
    """Two per weight and token, and two per score and per weighted value."""
    model = tiny_model()
    tokens, keys = 6, 6 + 4
    linears = sum(
        linear.weight.numel()
        for block in model.blocks()
        for linear in (
            (*block.up, block.down)
            if hasattr(block, "up")
            else (*block.attention.projections(), block.output)
        )
    )
    attention = 2 * 2 * (2 * 24 * tokens * keys)  # layers x (scores, values) x 2 H T S
    readout = 2 * 24 * 3
    assert flops(model, tokens) == 2 * tokens * linears + attention + readout
