"""Jobs: what is refused, what fails alone, what is told at the end."""

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hydra.errors import HydraException
from omegaconf import OmegaConf

from skip_exp import results
from skip_exp.errors import ConfigError, SkipError
from skip_exp.sweep import check, run
from tests.conftest import Cli, finished
from tests.helpers.written import ROOT, block

SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def too_much(cfg: Any) -> None:
    """The pipeline of a job whose ratio cannot be reached."""
    if cfg.prune.ratio >= 0.95:
        raise ConfigError("prune.ratio", cfg.prune.ratio, "at most 0.9 can be reached")
    finished(cfg)


def status_of(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("outputs/*/*/*/result.json"))
    return {file.parent.name: json.loads(file.read_text())["status"] for file in files}


@pytest.mark.parametrize(("key", "more"), [("run", ()), ("sweep", ("-m",))])
def test_a_folder_that_another_command_uses_is_refused(
    cli: Cli, tmp_path: Path, key: str, more: tuple[str, ...]
) -> None:
    (tmp_path / "here").mkdir()
    command = ("+task=rte", f"hydra.{key}.dir=here", *more)
    with FileLock(tmp_path / "here/.lock"):
        ended = cli(*command)
        assert ended.code == 2 and ended.err.startswith(f"error: hydra.{key}.dir=here: ")
        assert not ended.jobs and os.listdir(tmp_path / "here") == [".lock"]
    assert cli(*command).code == 0


def test_the_folder_that_is_held_is_that_of_the_results(cli: Cli, tmp_path: Path) -> None:
    assert cli("+task=rte").code == 0
    assert cli("+task=rte", "hydra.run.dir='outputs/a/${hydra:runtime.choices.task}'").code == 0
    files = [*tmp_path.glob("outputs/*/*/result.json")]
    assert {*tmp_path.rglob(".lock")} == {file.with_name(".lock") for file in files}
    assert tmp_path / "outputs/a/rte/result.json" in files and len(files) == 2


@pytest.mark.parametrize("name", [".hidden-${seed}", "wandb${seed}/x"])
def test_a_sweep_finds_its_results_whatever_their_folders_are_called(cli: Cli, name: str) -> None:
    place = ("hydra.sweep.dir=all", f"hydra.sweep.subdir='{name}'")
    ended = cli("+task=rte", "-m", "seed=20,21", *place)
    assert (ended.code, ended.err) == (0, "")
    assert re.findall(r"^(\d+) +0\.5 ", ended.out, re.M) == ["20", "21"]
    assert re.search(r"^job 2 of 2, about \d+ s left: ", ended.out, re.M)


def test_flags_may_stand_between_overrides(cli: Cli) -> None:
    given = ("+task.files.train=rows.csv", "experiment=smoke", "seed=4,5")
    ended = cli("--config-dir", ".", "+task=rte", "-m", *given, "--config-name", "config")
    assert ended.code == 0
    assert [(job.seed, job.tune.epochs) for job in ended.jobs] == [(4, 2), (5, 2)]
    assert ended.jobs[0].task.files == {"train": "rows.csv"}


def test_a_resolved_configuration_is_shown_without_a_job(cli: Cli) -> None:
    ended = cli("+task=rte", "prune.ratio=0.3", "--cfg", "job", "--resolve")
    assert (ended.code, ended.jobs) == (0, [])
    assert OmegaConf.create(ended.out).prune.ratio == 0.3


def test_a_job_shows_its_row_and_where_it_lies(cli: Cli, tmp_path: Path) -> None:
    ended = cli("+task=rte", "prune.ratio=0.3", "seed=7")
    assert ended.code == 0
    folder = Path(ended.jobs[0].output_dir)
    assert re.fullmatch(r"[\d-]+-rte-minilm-0.3-7", folder.name)
    several = cli("+task=rte", "prune.ratio=0.2,0.25", "-m")
    names = [Path(job.output_dir).name for job in several.jobs]
    assert names == ["0-rte-minilm-0.2-1", "1-rte-minilm-0.25-1"]
    assert f"results: {folder.relative_to(tmp_path)}\n" in ended.out


def test_a_search_is_one_row_without_its_jobs(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs run inside of its folder."""

    def find(cfg: Any, run_job: Any) -> None:
        folder = Path(cfg.output_dir)
        for ratio in ("0", "0.9"):
            prune = replace(cfg.prune, within=None, ratio=float(ratio))
            run_job(replace(cfg, prune=prune, output_dir=str(folder / "jobs" / ratio)))
        (folder / results.CONFIG_FILE).touch()
        finished(replace(cfg, prune=replace(cfg.prune, within=None, ratio=0.52)))

    monkeypatch.setattr("skip_exp.within.run.find", find)
    ended = cli("+task=rte", "prune.within=1", "-m", "seed=1,2")
    assert ended.code == 0
    assert [job.prune.ratio for job in ended.jobs] == [0, 0.9, 0, 0.9]
    assert "2 jobs" in ended.out and re.search(r"^job 2 of 2, about \d+ s left: ", ended.out, re.M)
    names = [file.parent.name for file in tmp_path.glob("outputs/*/*/*/result.json")]
    assert sorted(names) == ["0-rte-minilm-within1-1", "1-rte-minilm-within1-2"]


def test_a_failing_job_fails_alone(cli: Cli, tmp_path: Path) -> None:
    ended = cli("+task=rte", "prune.ratio=0.99,0.7", "-m", run=too_much)
    assert ended.code == 1
    assert re.fullmatch(r"error: job 1 \(rte, minilm, 0.99\): prune.ratio=0.99: .*\n", ended.err)
    assert status_of(tmp_path) == {"0-rte-minilm-0.99-1": "failed", "1-rte-minilm-0.7-1": "done"}
    assert "2 jobs" in ended.out and "failed: prune.ratio=0.99" in ended.out
    assert re.search(r"results: outputs/\S+\nreport: +skip-exp report outputs/", ended.out)
    single = cli("+task=rte", "prune.ratio=0.99", run=too_much)
    assert (single.code, single.out) == (1, "")
    assert re.fullmatch(r"error: prune.ratio=0.99: .*\n", single.err)


def broken(cfg: Any) -> None:
    raise RuntimeError("out of luck\nand more")


def test_a_traceback_goes_to_the_log_file_only(cli: Cli, tmp_path: Path) -> None:
    ended = cli("+task=rte", "hydra.run.dir=here", run=broken)
    assert ended.code == 1
    assert re.fullmatch("error: RuntimeError: out of luck .*here/skip_exp.log.*\n", ended.err)
    log = (tmp_path / "here/skip_exp.log").read_text()
    assert "Traceback" in log and "in broken" in log
    assert json.loads((tmp_path / "here/result.json").read_text())["error"].endswith("of luck")


def test_a_traceback_is_shown_when_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(HydraException, match="task/nope"):
        cli("+task=nope")


def pressed(cfg: Any) -> None:
    raise KeyboardInterrupt


def terminated(cfg: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("run", [pressed, terminated])
def test_ctrl_c_and_sigterm_end_the_sweep(cli: Cli, run: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        ended = cli("+task=rte", "seed=1,2", "-m", run=run)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.code == 130
    assert len(ended.jobs) == 1
    assert re.fullmatch(r"\nerror: interrupted; results so far: outputs/\S+\n", ended.err)


@pytest.mark.parametrize("args", [["hydra.run.dir=file/x"], ["hydra.sweep.dir=file/x", "-m"]])
def test_an_unwritable_folder_is_one_line(cli: Cli, tmp_path: Path, args: list[str]) -> None:
    (tmp_path / "file").touch()
    ended = cli("+task=rte", *args)
    assert (ended.code, ended.jobs) == (2, [])
    assert re.fullmatch(r"error: [^\n]*file/x[^\n]*\n", ended.err)


def leaves_nothing(cfg: Any) -> None:  # as a worker that fails and keeps the finished result
    (Path(cfg.output_dir) / results.CONFIG_FILE).write_text("")


def is_refused(cfg: Any) -> None:
    raise SkipError("holds the finished result of another job")


def test_a_job_without_a_result_is_named_whatever_lies_there(cli: Cli, tmp_path: Path) -> None:
    sweep = ("+task=rte", "hydra.sweep.dir=all", "-m")
    told = "error: 0-rte-minilm-0.5-1: ended without a result\n"
    first = cli(*sweep, run=leaves_nothing)
    assert first.code == 1 and first.err.endswith(told)
    assert cli(*sweep).code == 0
    for file in (tmp_path / "all").rglob("*"):
        os.utime(file, (1, 1))
    for job in (leaves_nothing, is_refused):
        ended = cli(*sweep, "attribution=random", run=job)
        assert ended.code == 1 and ended.err.endswith(told)
        assert "in percent" not in ended.out


@pytest.mark.slow
def test_one_sweep_has_one_name(cli: Cli) -> None:
    orders = (["+task=rte", "seed=1"], ["seed=1", "+task=rte"], ["+task=rte", "seed=2"])
    first, again, other = (cli(*order, "-m").jobs[0].sweep.id for order in orders)
    assert re.fullmatch(r"sweep-[0-9a-f]{8}", first)
    assert first == again != other
    job, named = cli("+task=rte"), cli("+task=rte", "logger.group=mine")
    assert (job.jobs[0].sweep.id, named.jobs[0].sweep.id) == (None, None)  # W&B's groups are not it
    assert job.jobs[0].output_dir != named.jobs[0].output_dir  # also within one second


def test_quoted_values_are_swept_as_they_are(cli: Cli) -> None:
    ended = cli("+task=rte", "logger.group='a, b','c (1)'", "-m")
    assert ended.code == 0
    assert [cfg.logger.group for cfg in ended.jobs] == ["a, b", "c (1)"]


# --- progress, and whose jobs are told of at the end -------------------------------------------


@pytest.mark.parametrize(
    ("params", "overrides", "jobs"),
    [
        ({}, [], 1),
        ({}, ["+task=sst2,rte", "seed=1,2,3", "prune.ratio=0.5"], 6),
        ({}, ["seed=range(1,5)", "prune.sites=[ffn,heads]"], 4),
        ({"prune.ratio": "0.3,0.5"}, ["prune.ratio=0.7"], 1),  # the command line replaces the file
    ],
)
def test_number_of_jobs(params: dict[str, str], overrides: list[str], jobs: int) -> None:
    sweeper = {"_target_": SWEEPER, "params": params}
    hydra = OmegaConf.create({"sweeper": sweeper, "overrides": {"task": overrides}})
    assert len(check.list_jobs(hydra)) == jobs


def test_the_sweep_file_of_the_docs_counts_and_names_the_group(cli: Cli, tmp_path: Path) -> None:
    text = block(ROOT / "docs/sweeps.md", "defaults: [config, _self_]")
    (tmp_path / "mine.yaml").write_text(text)
    ended = cli("--config-dir", ".", "--config-name", "mine", "seed=7")
    assert [job.prune.ratio for job in ended.jobs] == [0.5, 0.7]
    assert {(job.task.name, job.tune.epochs, job.seed) for job in ended.jobs} == {("sst2", 4, 7)}
    assert ended.jobs[0].sweep.id.startswith("mine-")


@pytest.mark.slow
def test_the_table_has_the_jobs_of_this_sweep_only(cli: Cli) -> None:
    cli("+task=rte", "seed=20,21", "hydra.sweep.dir=all", "-m")
    ended = cli("+task=rte", "prune.ratio=0.3,0.7", "hydra.sweep.dir=all", "-m")
    assert ended.code == 0
    assert "2 jobs" in ended.out and "ended without a result" not in ended.err
    assert re.findall(r"^ +(0\.\d) ", ended.out, re.M) == ["0.3", "0.7"]
    many = cli("+task=rte", "seed=range(0,11)", "hydra.sweep.dir=all", "-m")
    assert re.findall(r"^(\d+) +0\.5 ", many.out, re.M) == [str(seed) for seed in range(11)]


@pytest.mark.parametrize(
    ("objective", "error", "value"),
    [
        ("select/final", None, 0.75),
        (["select/final", "flops/ratio"], None, (0.75, 2.0)),
        (["select/final", "latency/speedup"], None, None),  # taken under other load
        ("latency/final_ms", None, None),  # the same
        ("select/final", "RuntimeError: out of luck", None),
        (None, None, None),
    ],
)
def test_a_job_returns_its_objective(
    tmp_path: Path, objective: Any, error: str | None, value: Any
) -> None:
    done = results.Result(
        select=results.Scores(final=0.75),
        flops=results.Flops(ratio=2.0),
        latency=results.Latency(speedup=3.0, final_ms=2.0, contended=True),
    )
    results.write(tmp_path, done)
    cfg = OmegaConf.create({"output_dir": str(tmp_path), "sweep": {"objective": objective}})
    assert run.read_objectives(cfg, bool(error)) == value


# --- conventions --------------------------------------------------------------------------------


def test_settings_of_a_cluster_are_taken_from_a_file_of_its_own(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own/local").mkdir(parents=True)
    text = "# @package _global_\nlogger: {entity: us}\ntrainer: {accelerator: cpu}\n"
    (tmp_path / "own/local/default.yaml").write_text(text)
    ended = cli("--config-dir", "own", "+task=rte", "trainer.accelerator=auto")
    (job,) = ended.jobs
    assert (job.logger.entity, job.trainer.accelerator) == ("us", "auto")


def test_a_debug_run_is_a_choice(cli: Cli) -> None:
    (job,) = cli("+task=rte", "debug=default").jobs
    assert (job.logger.name, job.tune.epochs, job.cache.dir) == ("none", 1, None)
