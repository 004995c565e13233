"""Whole jobs of a user who has a hub and an empty cache; then without it, and with a bad one."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skip_exp import results
from tests.helpers.hub import Hub, serving

pytestmark = pytest.mark.slow
SMALL = (
    *("data.source=hub", "tune.epochs=1", "retune.epochs=1", "attribution.samples=16"),
    *("tune.min_steps=0", "retune.min_steps=0", "retune.budget=0"),
    *("benchmark.enabled=false", "logger=none", "trainer.progress=false"),
)
ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run(hub, *arguments)`` in an empty folder, whose ``home`` holds the caches."""

    def start(hub: Hub, *arguments: str, module: str = "skip_exp") -> Any:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=tmp_path,
            env=hub.environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            check=False,
        )

    return start


def done(folder: Path) -> list[Any]:
    return [found for found in results.load(folder / "outputs") if found["status"] == "done"]


def refusal(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line that a job was refused with."""
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("error: "))
    return line


def test_a_job_of_every_family_then_the_same_without_the_hub(
    everything: Path, run: Run, tmp_path: Path
) -> None:
    names = ("bert_base", "roberta_base", "modernbert_base", "ettin_17m", "t5_base", "flan_t5_base")
    backbones = f"backbone={','.join(names)}"
    command = (*SMALL, "+task=rte", backbones, "cache.dir=null", "sweep.skip_done=false", "-m")
    with serving(everything) as hub:
        ended = run(hub, *command)
    assert ended.returncode == 0, ended.stderr
    first = done(tmp_path)
    assert {found["backbone"] for found in first} == {*names}
    for found in first:
        assert found["data_source"] == "hub:nyu-mll/glue/rte" and not found["data_is_sample"]
    ended = run(hub, *command)  # nobody listens at its address any more
    assert ended.returncode == 0, ended.stderr
    again = done(tmp_path)[len(first) :]
    assert [found["metric"] for found in again] == [found["metric"] for found in first]


def test_what_is_not_to_be_had_is_one_line(hub: Hub, run: Run) -> None:
    hub.gated = {"google/flan-t5-base"}
    login = "log in with `hf auth login`, or set HF_TOKEN"
    line = refusal(run(hub, *SMALL, "+task=rte", "backbone=flan_t5_base"))
    assert line == (
        f"error: backbone.path=google/flan-t5-base: gated: ask for access at {hub.url}/"
        f"google/flan-t5-base, then {login}"
    )
    line = refusal(run(hub, *SMALL, "+task=rte", "backbone=bert_base", "backbone.path=no/thing"))
    assert line == f"error: backbone.path=no/thing: not on {hub.url}; if it is private, {login}"
    line = refusal(run(hub, *SMALL, "+task=rte", "task.hub.path=no/thing"))
    assert line == (
        f"error: task rte: task.hub=no/thing/rte: not on {hub.url}; if it is private, {login}"
    )
