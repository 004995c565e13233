"""How far a sweep is, and whose jobs are told of at its end."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from skip_exp.errors import SkipError
from skip_exp.sweep import check, run
from tests.conftest import Cli, finished


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
    sweeper = {"_target_": "hydra.BasicSweeper", "params": params}
    hydra = OmegaConf.create({"sweeper": sweeper, "overrides": {"task": overrides}})
    assert len(check.list_jobs(hydra)) == jobs


def test_a_sweep_file_counts_and_names_the_group(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "pairs.yaml").write_text(
        "defaults: [config, _self_]\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {+task: rte, prune.ratio: '0.3,0.7'}}}\n"
    )
    ended = cli("--config-dir", ".", "--config-name", "pairs", "seed=7")
    assert [job.prune.ratio for job in ended.jobs] == [0.3, 0.7]
    assert ended.jobs[0].sweep.id.startswith("pairs-")
    assert "job 1 of 2\n" in ended.out
    assert re.search(r"^job 2 of 2, about \d+ s left$", ended.out, re.M)
    assert not re.search(r"^job ", cli("+task=rte").out, re.M)


def test_lines_of_jobs_side_by_side_begin_with_their_number(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BASIC", ("BasicSweeper",))  # as under another launcher

    def speaks(cfg: Any) -> None:
        logging.getLogger("skip_exp.some").info("[1/6] tune")
        finished(cfg)

    ended = cli("+task=rte", "seed=1,2", "hydra.sweep.dir=all", "-m", run=speaks)
    assert "\n[1] [1/6] tune\n" in ended.out and "\n[2] [1/6] tune\n" in ended.out
    log = Path("all/0-rte-minilm-0.5-1/skip_exp.log").read_text()
    assert log.endswith("INFO skip_exp.some: [1/6] tune\n")


def test_the_table_has_the_jobs_of_this_sweep_only(cli: Cli) -> None:
    cli("+task=rte", "seed=20,21", "hydra.sweep.dir=all", "-m")
    ended = cli("+task=rte", "prune.ratio=0.3,0.7", "hydra.sweep.dir=all", "-m")
    assert ended.code == 0
    assert "2 jobs" in ended.out and "ended without a result" not in ended.err
    assert re.findall(r"accuracy +(\S+)", ended.out) == ["0.3", "0.7"]
    again = cli("+task=rte", "seed=20,21", "hydra.sweep.dir=all", "-m")
    assert re.findall(r"minilm +(\d+) ", again.out) == ["20", "21"]


def test_jobs_may_lie_deeper_in_the_folder(cli: Cli) -> None:
    place = ["hydra.sweep.dir=all", "hydra.sweep.subdir=s${seed}/x", "-m"]
    ended = cli("+task=rte", "seed=20,21", *place)
    assert (ended.code, ended.err) == (0, "")
    assert re.findall(r"minilm +(\d+) ", ended.out) == ["20", "21"]
    assert re.search(r"^job 2 of 2, about \d+ s left$", ended.out, re.M)


def test_a_job_that_was_refused_for_what_lies_there_is_not_told_as_done(cli: Cli) -> None:
    def refused(cfg: Any) -> None:
        raise SkipError("holds the finished result of another job")

    given = ["+task=rte", "seed=20", "hydra.sweep.dir=all", "-m"]
    assert cli(*given).code == 0
    ended = cli(*given, "attribution=random", run=refused)
    assert ended.code == 1
    assert "minilm " not in ended.out
    assert ended.err.endswith("error: 0-rte-minilm-0.5-20: ended without a result\n")
