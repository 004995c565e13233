"""The ratio for a speed-up: exact bisections, and whole searches on a tiny model."""

from pathlib import Path
from typing import Any

import pytest

from skip_exp import pipeline
from skip_exp.errors import ConfigError
from skip_exp.models.surgery import block_parameters
from skip_exp.phases import prune
from tests.helpers.toy import toy_job


def test_a_speed_up_is_measured_on_the_cut_model_itself(
    toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that counts parameters; a reach beyond the fastest cut is refused."""
    state = {"contended": False, "calls": 0}

    def compare(dense: Any, final: Any, settings: Any, device: str) -> dict[str, Any]:
        state["calls"] += 1
        sizes = [1 + block_parameters(model) / 1e4 for model in (dense, final)]
        return {"speedup": sizes[0] / sizes[1], "contended": state["contended"]}

    monkeypatch.setattr(prune, "compare", compare)

    def run(folder: str, target: float, *more: str) -> Any:
        asked = [f"prune.target_speedup={target}", "retune.enabled=false", *more]
        return pipeline.run(toy_job(toy, tmp_path, folder, *asked))

    state["contended"] = True
    first = run("a", 1.2)
    assert not [*tmp_path.glob("cache/jobs/*.safetensors"), *tmp_path.glob("cache/time_cut/*.s*")]
    ratio, probes = first["ratio"], first["probes"]
    assert probes[f"{ratio:g}"] >= 1.2 > probes[f"{ratio - 0.01:g}"]
    assert first["config"]["prune"]["target_speedup"] == 1.2
    calls, state["contended"] = state["calls"], False
    run("b", 1.2)  # the same job, which is not known
    assert state["calls"] > calls
    calls = state["calls"]
    run("c", 1.2)
    run("d", 1.2, "retune.train=bias")  # another job with the same probes
    assert state["calls"] == calls
    with pytest.raises(ConfigError, match=r"^prune\.target_speedup=50"):
        run("e", 50)
    assert run("f", 1)["ratio"] == 0
