"""Searches: what is asked, what a killed one makes again, what is printed and refused."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from skip_exp import results
from skip_exp.errors import ConfigError
from skip_exp.sweep import search
from tests.conftest import Cli, Ended

optuna = pytest.importorskip("optuna")
SEARCH = ("+task=rte", "hparams_search=optuna", "hydra.sweeper.n_trials=3", "-m")
SEARCH += ("hydra.sweeper.options.n_startup_trials=2",)


def scored(cfg: Any) -> None:
    """A finished job: the nearer its learning rate is to 0.01 the better, and cut is fast."""
    done = results.Result(
        task=cfg.task.name,
        select=results.Scores(final=score(cfg)),
        latency=results.Latency(speedup=1 / (1 - cfg.prune.ratio)),
        finished=results.now(),
        skill="skill",
        job_id=f"{cfg.tune.lr}, {cfg.retune.lr}, {cfg.retune.distill}",
    )
    results.write(cfg.output_dir, done)
    (Path(cfg.output_dir) / "skill").mkdir(exist_ok=True)


def score(cfg: Any) -> float:
    return float(1 - abs(cfg.retune.lr - 0.01) * 10)


def asked(ended: Ended) -> list[tuple[float, float, float]]:
    return [(j.tune.lr, j.retune.lr, j.retune.distill) for j in ended.jobs]


@pytest.mark.slow
def test_an_interrupted_search_goes_on_and_draws_what_an_undisturbed_one_draws(
    cli: Cli, tmp_path: Path
) -> None:
    whole = cli(*SEARCH, "hydra.sweep.dir=whole", run=scored)
    assert whole.code == 0 and len(set(asked(whole))) == 3
    assert {tune for tune, *_ in asked(whole)} <= {0.01, 0.02, 0.04}  # dense models, shared

    def interrupted(cfg: Any) -> None:
        if Path(cfg.output_dir).name.startswith("1-"):
            raise KeyboardInterrupt
        scored(cfg)

    first = cli(*SEARCH, run=interrupted)
    again = cli(*SEARCH, run=scored)
    assert (first.code, again.code) == (130, 0)
    assert asked(first) == asked(whole)[:2]
    assert asked(again) == asked(whole)[1:]  # the interrupted job, in its folder, and the rest
    assert first.jobs[1].output_dir == again.jobs[0].output_dir
    assert "3 jobs" in again.out and re.search("^job 2 of 3", again.out, re.M)
    (folder,) = (tmp_path / "outputs").iterdir()  # named by the command
    assert len([*folder.glob("*/result.json")]) == 3
    best = max(range(3), key=lambda number: score(whole.jobs[number]))
    told, command = again.out.splitlines()[-2:]
    assert re.match(rf"best: +job {best + 1} of 3 trials: select/final [01]", told)
    assert whole.out.splitlines()[-2] == told
    assert f"retune.lr={whole.jobs[best].retune.lr}" in command


@pytest.mark.slow
def test_a_finished_search_is_answered_and_its_best_job_runs_alone(cli: Cli) -> None:
    first = cli(*SEARCH, run=scored)
    last = cli(*SEARCH, run=scored)
    assert (last.code, last.jobs) == (0, [])
    assert last.out.splitlines()[-2:] == first.out.splitlines()[-2:]
    best = max(first.jobs, key=score)
    command = last.out.splitlines()[-1].split("skip_exp ", 1)[1]
    single = cli(*shlex.split(command), run=scored)
    assert single.code == 0 and asked(single) == asked(Ended(0, "", "", [best]))


@pytest.mark.slow
def test_a_failed_job_is_no_trial_and_more_trials_go_on(cli: Cli) -> None:
    def fails_once(cfg: Any) -> None:
        if Path(cfg.output_dir).name.startswith("1-"):
            raise RuntimeError("out of luck")
        scored(cfg)

    ended = cli(*SEARCH, run=fails_once)
    assert ended.code == 1 and len(ended.jobs) == 3
    assert "of 2 trials" in ended.out
    again = cli(*SEARCH, run=scored)
    assert (again.code, len(again.jobs)) == (0, 1) and "of 3 trials" in again.out
    more = cli(*SEARCH, "hydra.sweeper.n_trials=5", run=scored)
    assert len(more.jobs) == 2 and "of 5 trials" in more.out


@pytest.mark.slow
def test_two_objectives_end_with_the_jobs_that_no_other_beats(cli: Cli) -> None:
    two = ("+task=rte", "hparams_search=score_and_speed", "hydra.sweeper.n_trials=6", "-m")
    ended = cli(*two, run=scored)
    assert ended.code == 0
    given = [(score(job), 1 / (1 - job.prune.ratio)) for job in ended.jobs]
    best = {
        number
        for number, (mine, speed) in enumerate(given, 1)
        if not any(a > mine and b > speed for a, b in given)
    }
    shown = re.findall(r"^best: +job (\d) of 6 trials: select/final \S+, latency", ended.out, re.M)
    assert {*map(int, shown)} == best and ended.out.count("again:") == len(best)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"objectives": []}, "sweep.objective=None: "),
        ({"objectives": ["select/final", "flops/ratio"]}, "hydra.sweeper.direction=maximize: "),
        ({"n_jobs": 0}, "hydra.sweeper.n_jobs=0: "),
        ({"task": ["tune.lr=0.1"]}, "hydra.sweeper.params=.*: "),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(given: dict[str, Any], key: str) -> None:
    settings = {"direction": "maximize", "n_trials": 4, "n_jobs": 1, "sampler": "TPESampler"}
    objectives = given.pop("objectives", ["select/final"])
    overrides = given.pop("task", ["+task=rte"])
    settings["params"] = {"tune.lr": "interval(0.1,1)"}
    hydra = OmegaConf.create({"sweeper": settings | given, "overrides": {"task": overrides}})
    with pytest.raises(ConfigError, match=f"^{key}"):
        search.check_search(hydra, objectives)


def test_without_optuna_a_search_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "find_spec", lambda _: None)
    ended = cli(*SEARCH)
    assert (ended.code, ended.jobs) == (2, [])
    assert "'skip_exp[search]'" in ended.err and ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("swept", "kind", "low", "high", "more"),
    [
        ("interval(0.1,1)", "Float", 0.1, 1.0, {"log": False}),
        ("tag(log,interval(0.001,1))", "Float", 0.001, 1.0, {"log": True}),
        ("int(interval(2,8))", "Int", 2, 8, {"log": False}),
        ("range(2,9,2)", "Int", 2, 8, {"step": 2}),
        ("range(0.1,0.35,0.1)", "Float", 0.1, 0.3, {"step": 0.1}),
        ("range(0.0,1.0,0.3)", "Float", 0.0, 0.9, {"step": 0.3}),  # 0.3 + 0.3 + 0.3 is less
        ("range(1.0,0.0,-0.3)", "Float", 0.1, 1.0, {"step": 0.3}),
        ("shuffle(range(1,6))", "Int", 1, 5, {"step": 1}),
    ],
)
def test_ranges_and_intervals(swept: str, kind: str, low: Any, high: Any, more: Any) -> None:
    found = search._distribution(OverridesParser.create().parse_override(f"x={swept}"))
    assert type(found).__name__ == f"{kind}Distribution"
    assert (found.low, found.high) == pytest.approx((low, high))
    assert {name: getattr(found, name) for name in more} == more


def test_choices_are_as_they_are_written() -> None:
    parse = OverridesParser.create().parse_override
    found = search._distribution(parse("x='a b',[c,d],null,1"))
    assert found.choices == ("'a b'", "1", "[c,d]", "null")


def test_shuffled_choices_are_the_same_space_each_time() -> None:
    override = OverridesParser.create().parse_override("x=shuffle(a,b,c,d,e,f,g,h)")
    assert search._distribution(override) == search._distribution(override)


# --- whole jobs ---------------------------------------------------------------------------------
