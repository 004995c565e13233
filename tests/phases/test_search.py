"""The ratio for a goal: exact bisections, and whole searches on a tiny model."""

from pathlib import Path
from typing import Any

import pytest

from skip_exp import pipeline
from skip_exp.errors import ConfigError
from skip_exp.phases import search
from skip_exp.phases.search import COARSE, find_first, list_ratios
from tests.helpers.toy import save_toy, toy_job

NUMBERS = ("metric", "metrics", "select", "params", "keep_sizes", "ratio_reached")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def bound(toy: list[str], tmp_path: Path) -> Any:
    """``bound(max_drop, *overrides)``: the configuration of a search within a drop."""

    def make(drop: float, *overrides: str, folder: str = "run") -> Any:
        # Tuned well enough that a cut costs something.
        own = ["experiment=prompt", "tune.epochs=4", "tune.lr=0.05", "retune.train=prompt"]
        own += ["retune.lr=1e-5", f"prune.max_drop={drop}"]
        return toy_job(toy, tmp_path, folder, *own, *overrides)

    return make


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The ratio of every cut that a search makes."""
    made: list[float] = []
    real = search.prune

    def record(trainer: Any, dense: Any, relevance: Any, settings: Any, ratio: float, seed: int):  # type: ignore[no-untyped-def]
        made.append(ratio)
        return real(trainer, dense, relevance, settings, ratio, seed)

    monkeypatch.setattr(search, "prune", record)
    return made


def test_the_ratios_end_where_the_sites_do() -> None:
    assert list_ratios(COARSE, 0.3) == [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    assert list_ratios(COARSE, 0.2999)[-1] == 0.25
    assert list_ratios(COARSE, 1.0)[-1] == 0.95
    assert list_ratios(COARSE, 0.04) == []


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.05, 0.33, 0.5, 0.95, 1.0])
def test_bisection_finds_the_first_that_holds(threshold: float) -> None:
    asked: list[float] = []

    def holds(ratio: float) -> bool:
        asked.append(ratio)
        return ratio > threshold

    ratios = list_ratios(COARSE, 1.0)
    assert find_first(ratios, holds) == sum(ratio <= threshold for ratio in ratios)
    assert len(asked) == len(set(asked)) <= 5  # 20 answers are possible


def test_a_search_within_a_drop(bound: Any, cuts: list[float]) -> None:
    result = pipeline.run(bound(4))
    ratio, probes, dense = result["ratio"], result["probes"], result["select"]["dense"]
    assert cuts == [*map(float, probes)]
    assert 0 < ratio < 0.95  # else the rest shows nothing
    assert result["select"]["final"] == probes[f"{ratio:g}"]
    assert 100 * (dense - probes[f"{ratio:g}"]) <= 4 + 1e-9
    assert 100 * (dense - probes[f"{ratio + 0.05:g}"]) > 4
    assert result["method"]["max_drop"] == 4
    given = pipeline.run(bound(4, "prune.max_drop=null", f"prune.ratio={ratio}", folder="given"))
    assert [given[name] for name in NUMBERS] == [result[name] for name in NUMBERS]


def test_an_interrupted_search_goes_on_and_another_bound_reuses_its_probes(
    bound: Any, cuts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pipeline, "prune", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        pipeline.run(bound(4))
    probed = [*cuts]
    cuts.clear()
    pipeline.run(bound(4))
    assert probed and not cuts
    assert pipeline.run(bound(100, folder="other"))["ratio"] == 0.95  # nothing costs a hundred
    assert not {*cuts} & {*probed}


def test_nothing_within_the_bound_is_ratio_0(
    bound: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(search, "score_slice", lambda *_: 0.0)
    result = pipeline.run(bound(0))
    assert result["ratio"] == result["ratio_reached"] == 0
    assert "ratio 0" in caplog.text


def test_a_speed_up_is_measured_on_the_cut_model_itself(
    toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that counts parameters; a reach beyond the fastest cut is refused."""
    state = {"contended": False, "calls": 0}

    def compare(dense: Any, final: Any, settings: Any, device: str) -> dict[str, Any]:
        state["calls"] += 1
        sizes = [1 + model.block_parameters() / 1e4 for model in (dense, final)]
        return {"speedup": sizes[0] / sizes[1], "contended": state["contended"]}

    monkeypatch.setattr(search, "compare", compare)

    def run(folder: str, target: float, *more: str) -> Any:
        asked = [f"prune.target_speedup={target}", "retune.enabled=false", *more]
        return pipeline.run(toy_job(toy, tmp_path, folder, *asked))

    state["contended"] = True
    first = run("a", 1.2)
    ratio, probes = first["ratio"], first["probes"]
    assert probes[f"{ratio:g}"] >= 1.2 > probes[f"{ratio - 0.01:g}"]
    assert first["method"]["target_speedup"] == 1.2
    calls, state["contended"] = state["calls"], False
    run("b", 1.2, "prune.round_to=8")
    assert state["calls"] > calls
    calls = state["calls"]
    run("c", 1.2, "prune.round_to=8", "retune.train=bias")  # another job with the same probes
    assert state["calls"] == calls
    with pytest.raises(ConfigError, match=r"^prune\.target_speedup=50"):
        run("d", 50)
    assert run("e", 1)["ratio"] == 0
