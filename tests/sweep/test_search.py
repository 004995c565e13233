"""Searches: what a repeated one draws, what it tells, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from skip_exp import results
from tests.conftest import Cli, Ended

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
SEARCH = ("+task=rte", "hparams_search=optuna", "hydra.sweeper.n_trials=3", "-m")
SEARCH += ("hydra.sweeper.sampler.n_startup_trials=2",)
TWO = ("+task=rte", "hparams_search=score_and_speed", "hydra.sweeper.n_trials=6", "-m")


def score(cfg: Any) -> float:
    return float(1 - abs(cfg.retune.lr - 0.01) * 10)


def scored(cfg: Any) -> None:
    """A finished job: the nearer its learning rate is to 0.01 the better, and cut is fast."""
    done = results.Result(
        task=cfg.task.name,
        select=results.Scores(final=score(cfg)),
        latency=results.Latency(speedup=1 / (1 - cfg.prune.ratio)),
        finished=results.now(),
        skill="skill",
    )
    results.write(cfg.output_dir, done)
    (Path(cfg.output_dir) / "skill").mkdir(exist_ok=True)


def drawn(ended: Ended) -> list[tuple[float, float, float]]:
    return [(job.tune.lr, job.retune.lr, job.retune.distill) for job in ended.jobs]


def best(folder: Path) -> Any:
    (file,) = folder.rglob("optimization_results.yaml")
    return OmegaConf.load(file)


@pytest.mark.slow
def test_a_repeated_search_draws_the_same_values_and_more(cli: Cli, tmp_path: Path) -> None:
    def interrupted(cfg: Any) -> None:
        if Path(cfg.output_dir).name.startswith("1-"):
            raise KeyboardInterrupt
        scored(cfg)

    first = cli(*SEARCH, run=interrupted)
    whole = cli(*SEARCH, "hydra.sweep.dir=whole", run=scored)
    assert (first.code, whole.code) == (130, 0)
    assert "job 3 of 3" in whole.out
    assert len({*drawn(whole)}) == 3 and drawn(whole)[:2] == drawn(first)
    assert {rate for rate, *_ in drawn(whole)} <= {0.01, 0.02, 0.04}
    params = best(tmp_path / "whole").best_params
    assert params["retune.lr"] == max(whole.jobs, key=score).retune.lr
    assert str(params["retune.lr"]) in whole.out
    longer = cli(*SEARCH, "hydra.sweeper.n_trials=5", run=scored)
    assert len(longer.jobs) == 5 and drawn(longer)[:3] == drawn(whole)


@pytest.mark.slow
@pytest.mark.parametrize("search", [SEARCH, TWO], ids=["one objective", "two objectives"])
def test_a_failed_job_ends_no_search(cli: Cli, search: tuple[str, ...]) -> None:
    def fails_once(cfg: Any) -> None:
        if Path(cfg.output_dir).name.startswith("1-"):
            raise RuntimeError("out of luck")
        scored(cfg)

    ended = cli(*search, run=fails_once)
    assert ended.code == 1 and len(ended.jobs) == (3 if search is SEARCH else 6)


@pytest.mark.slow
def test_two_objectives_end_with_the_jobs_that_no_other_beats(cli: Cli, tmp_path: Path) -> None:
    ended = cli(*TWO, run=scored)
    assert ended.code == 0
    points = [(score(job), 1 / (1 - job.prune.ratio)) for job in ended.jobs]
    front = {p for p in points if not any(a > p[0] and b > p[1] for a, b in points)}
    solutions = best(tmp_path).solutions
    assert {tuple(solution["values"]) for solution in solutions} == front


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("hparams_search=optuna",), "hydra/sweeper=optuna"),
        (("hparams_search=optuna", "sweep.objective=null", "-m"), "sweep.objective="),
        (("hparams_search=optuna", "sweep.objective=metric/final", "-m"), "sweep.objective="),
        (("hparams_search=score_and_speed", "sweep.objective=select/final", "-m"), "sweep.obj"),
        (("hparams_search=optuna", "tune.lr=interval(0.1,20)", "-m"), "tune.lr=20"),
        (("hparams_search=optuna", "tune.lr=range(1,25,12)", "-m"), "tune.lr=13"),
    ],
)
def test_a_search_that_cannot_be_made_is_one_line(
    cli: Cli, overrides: tuple[str, ...], key: str
) -> None:
    ended = cli("+task=rte", *overrides)
    assert (ended.code, ended.jobs, ended.out) == (2, [], "")
    assert ended.err.startswith(f"error: {key}") and ended.err.count("\n") == 1
