"""The timing behind a speed-up: kept where it was undisturbed, and told in the result."""

import logging
from pathlib import Path
from typing import Any

import pytest

from skip_exp import pipeline
from skip_exp.phases import sublayers
from skip_exp.pruning.latency import Table, Timing
from skip_exp.utils import machine
from skip_exp.utils import timing as machine_timing
from tests.helpers.toy import save_toy, toy_job

GOAL = ("prune.target_speedup=1.5", "retune.enabled=false")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `measure` finds, whether it is disturbed, and how often it was asked."""
    state: dict[str, Any] = {"busy": 0, "asked": 0}

    def measure(model: Any, inputs: Any) -> Table:
        state["asked"] += 1
        sites = {
            site: Timing([0, size[-1]], [0.0, 1.0])
            for shape in model.shapes()
            for site, size in shape.sites().items()
        }
        return Table(len(model.shapes()) + 1.0, sites)

    class Load:
        def others(self) -> float:
            state["busy"] -= 1
            return float(state["busy"] >= 0)

    monkeypatch.setattr(sublayers, "measure", measure)
    monkeypatch.setattr(machine_timing, "Load", Load)
    monkeypatch.setattr(machine_timing, "free_cores", lambda threads: 0)
    for module in (machine_timing, machine):
        monkeypatch.setattr(module, "processor", lambda: state.get("processor", "one"))
    return state


def tables(root: Path) -> int:
    return len(list((root / "cache" / "latency").glob("*.safetensors")))


def test_a_table_is_measured_once_for_a_processor(
    toy: list[str], tmp_path: Path, timed: dict[str, Any]
) -> None:
    for folder, processor, asked in (("a", "one", 1), ("b", "one", 1), ("c", "two", 2)):
        timed["processor"] = processor
        seed = {"a": 1, "b": 2, "c": 1}[folder]  # c: the job of a, which another table may cut
        result = pipeline.run(toy_job(toy, tmp_path, folder, *GOAL, f"seed={seed}"))
        assert (timed["asked"], tables(tmp_path)) == (asked, asked)
        told = result["method"]["table"]
        assert (told["device"], told["contended"]) == (processor, False)
        kept = [kept / of for kept, of in result["keep_sizes"].values()]
        assert 1.5 <= told["speedup"] < 2 and told["threads"] >= 1
        assert told["speedup"] == pytest.approx((len(kept) + 1) / (sum(kept) + 1))
        assert result["method"]["target_speedup"] == 1.5
        assert result["ratio"] == pytest.approx(result["ratio_reached"], abs=1e-3)


def test_a_contended_table_serves_its_own_job_alone(
    toy: list[str], tmp_path: Path, timed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    timed["busy"] = 3
    with caplog.at_level(logging.WARNING):
        result = pipeline.run(toy_job(toy, tmp_path, "busy", *GOAL))
    assert result["method"]["table"]["contended"]
    assert (timed["asked"], tables(tmp_path)) == (3, 0)  # it tried for a quiet moment
    told = [record.getMessage() for record in caplog.records if "1.0 cores" in record.getMessage()]
    assert [f"{n} of 3" in line for n, line in enumerate(told, 1)] == [True] * 3
    assert ["contended" in line for line in told] == [False, False, True]
    timed["busy"] = 1
    result = pipeline.run(toy_job(toy, tmp_path, "quiet", *GOAL, "seed=2"))
    assert not result["method"]["table"]["contended"]
    assert (timed["asked"], tables(tmp_path)) == (5, 1)  # the second attempt was quiet


def test_without_a_speed_up_nothing_is_timed(
    toy: list[str], tmp_path: Path, timed: dict[str, Any]
) -> None:
    result = pipeline.run(toy_job(toy, tmp_path, "ratio"))
    assert "table" not in result["method"] and timed["asked"] == 0
