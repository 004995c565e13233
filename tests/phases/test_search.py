"""The largest ratio within a bound: exact bisections, and whole searches on a tiny model."""

import logging
from pathlib import Path
from typing import Any

import pytest

from skip_exp import pipeline
from skip_exp.data.module import TextDataModule
from skip_exp.phases import search
from skip_exp.phases.search import grid, largest, within
from tests.helpers.toy import save_toy, toy_job

NUMBERS = ("metric", "metrics", "select", "params", "keep_sizes", "ratio_reached")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def auto(toy: list[str], tmp_path: Path) -> Any:
    """``auto(max_drop, *overrides)``: the configuration of a search."""

    def make(bound: float, *overrides: str, folder: str = "run") -> Any:
        # Tuned well enough that a cut costs something.
        own = ["experiment=prompt", "tune.epochs=4", "tune.lr=0.05", "retune.train=prompt"]
        own += ["retune.lr=1e-5"]
        asked = ["prune.ratio=auto", f"prune.max_drop={bound}"]
        return toy_job(toy, tmp_path, folder, *own, *asked, *overrides)

    return make


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The ratio of every cut that is made."""
    made: list[float] = []
    real = search.prune

    def noted(job: Any, dense: Any, relevance: Any, ratio: float) -> Any:
        made.append(ratio)
        return real(job, dense, relevance, ratio)

    for module in (pipeline, search):
        monkeypatch.setattr(module, "prune", noted)
    return made


def test_the_grid_ends_where_the_sites_do() -> None:
    assert grid(0.3) == [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    assert grid(0.2999)[-1] == 0.25
    assert grid(1.0)[-1] == 0.95
    assert grid(0.04) == []


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.05, 0.33, 0.5, 0.95, 1.0])
def test_bisection_finds_the_last_that_holds(threshold: float) -> None:
    asked: list[float] = []

    def holds(ratio: float) -> bool:
        asked.append(ratio)
        return ratio <= threshold

    ratios = grid(1.0)
    assert largest(ratios, holds) == max([r for r in ratios if r <= threshold], default=0.0)
    assert len(asked) == len(set(asked)) <= 5  # 20 answers are possible


def test_bisection_without_ratios_or_with_a_gap() -> None:
    assert largest([], lambda _: pytest.fail("asked")) == 0.0
    scores = {0.05: True, 0.1: False, 0.15: True, 0.2: False, 0.25: False}
    assert largest(list(scores), scores.__getitem__) == 0.15  # 0.1 is never asked


def test_a_whole_search(auto: Any, cuts: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[Any] = []
    attribute, found = pipeline.attribute, pipeline.search
    monkeypatch.setattr(pipeline, "attribute", lambda *a: scored.append(a) or attribute(*a))

    def search_alone(*given: Any) -> Any:
        with monkeypatch.context() as patched:
            unread = "test_dataloader"
            patched.setattr(TextDataModule, unread, lambda _: pytest.fail("validation read"))
            return found(*given)

    monkeypatch.setattr(pipeline, "search", search_alone)
    result = pipeline.run(auto(4))
    ratio, probes, dense = result["ratio"], result["probes"], result["select"]["dense"]
    assert cuts == [*map(float, probes), ratio]
    assert len(scored) == 1  # for all cuts
    assert 0 < ratio < 0.95  # else the rest shows nothing
    assert result["select"]["final"] == probes[f"{ratio:g}"]
    assert 100 * (dense - probes[f"{ratio:g}"]) <= 4 + 1e-9
    assert 100 * (dense - probes[f"{ratio + 0.05:g}"]) > 4
    assert result["method"]["max_drop"] == 4
    assert result["config"]["prune"]["ratio"] == "auto"
    assert result["seconds"].keys() >= {"search", "attribute", "prune", "retune"}
    assert min(result["seconds"].values()) >= 0
    asked = auto(1, f"prune.ratio={ratio}", "prune.max_drop=null", folder="fixed")
    fixed = pipeline.run(asked)
    assert [fixed[key] for key in NUMBERS] == [result[key] for key in NUMBERS]
    assert fixed["cache"] == {"tune": "hit", "attribution": "hit"}
    assert fixed["probes"] == {} and fixed["method"]["max_drop"] is None


@pytest.mark.slow
def test_an_interrupted_search_goes_on(
    auto: Any, cuts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.run(auto(4, "cache.dir=null", folder="whole"))
    assert whole["cache"] == {"tune": "miss", "attribution": "miss"}
    order = cuts.copy()
    assert len(order) > 3
    cuts.clear()
    real = search.prune

    def stopped(*given: Any) -> Any:
        if len(cuts) == 2:
            raise KeyboardInterrupt
        return real(*given)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(search, "prune", stopped)
        pipeline.run(auto(4))
    assert cuts == order[:2]
    cuts.clear()
    result = pipeline.run(auto(4))
    assert cuts == order[2:]  # the first two came from the cache
    assert [result[key] for key in (*NUMBERS, "probes")] == [
        whole[key] for key in (*NUMBERS, "probes")
    ]


@pytest.mark.slow
def test_a_search_with_another_bound_starts_from_the_same_probes(
    auto: Any, cuts: list[float]
) -> None:
    pipeline.run(auto(4))
    first = cuts[0]
    cuts.clear()
    other = pipeline.run(auto(100, folder="other"))
    assert first not in cuts
    assert cuts[-1] == other["ratio"] == 0.95  # nothing costs a hundred points


def test_exact_drops_and_nothing_within_the_bound(caplog: pytest.LogCaptureFixture) -> None:
    scores = {0.05: 0.92, 0.1: 0.91, 0.15: 0.9, 0.2: 0.8, 0.25: 0.7, 0.3: 0.6}
    found = within(grid(0.3), 0.91, 1.0, lambda ratio: (scores[ratio], False))
    # 0.15 costs one point to the digit
    assert found == (0.15, {"0.2": 0.8, "0.1": 0.91, "0.15": 0.9})
    for reach, why in ((0.3, "costs more than 1 points"), (0.04, "cannot reach ratio 0.05")):
        with caplog.at_level(logging.INFO, logger="skip_exp"):
            ratio, _ = within(grid(reach), 0.91, 1.0, lambda _: (0.5, False))
        assert ratio == 0
        assert why in caplog.records[-1].message
        assert "ratio 0" in caplog.records[-1].message


def test_ratio_zero_is_an_answer(auto: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "search", lambda *_: (0.0, {"0.05": 0.5}))
    result = pipeline.run(auto(0))
    assert result["ratio"] == result["ratio_reached"] == 0
    assert result["select"]["final"] >= result["select"]["dense"]
