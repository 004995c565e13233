"""W&B online: whole jobs with W&B's own client, against a stub of its backend on the loopback."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from skip_exp import results
from tests.helpers.toy import save_toy
from tests.helpers.wandb_backend import Backend, Run, backend

pytestmark = pytest.mark.slow
METHOD = "def scores(model, batches, tokens, sign, target, temperature, at): return None\n"  # fails
GIT = (
    "git init -q . && git remote add origin https://example.org/mine.git &&"
    " git -c user.name=me -c user.email=me@example.org commit -q --allow-empty -m begun"
)
METHODS = ("activation_gradient", "mine.activation_gradient.scores")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    settings = ["tune.epochs=2", "retune.epochs=1", "retune.budget=0", "benchmark.enabled=false"]
    return [*save_toy(tmp_path_factory.mktemp("toy")), *settings, "logger=wandb"]


def client(url: str, folder: Path) -> dict[str, str]:
    """The environment of a user with an API key, whose server this is."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    env |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "OMP_NUM_THREADS": "1"}
    return env | {"WANDB_DATA_DIR": str(folder / "data")}


def start(url: str, folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """The command line in a process of its own, in ``folder``."""
    command, pipe = [sys.executable, "-m", "skip_exp", *overrides], subprocess.PIPE
    env = client(url, folder)
    return subprocess.Popen(command, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a command printed; it does not outlive the test."""
    try:
        return process.communicate(timeout=300)
    finally:
        process.kill()


def sync(command: str, server: Backend, folder: Path) -> None:
    """Give the command that a log line shows."""
    typed = f"{sys.executable} -m {command}"
    subprocess.run(typed, shell=True, cwd=folder, env=client(server.url, folder), check=True)


def wait_for_a_run(server: Backend, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not server.runs:
        assert process.poll() is None and time.monotonic() < deadline, ended(process)
        time.sleep(0.02)


@dataclass
class Swept:
    """A sweep of two jobs, of which the second failed, and what the backend was told of them."""

    err: str
    out: str
    found: list[dict[str, Any]]
    runs: list[Run]


@pytest.fixture(scope="module")
def swept(toy: list[str], tmp_path_factory: pytest.TempPathFactory) -> Swept:
    folder = tmp_path_factory.mktemp("swept")
    (folder / "mine").mkdir()
    (folder / "mine/activation_gradient.py").write_text(METHOD)
    methods = "skip_exp.attribution.activation_gradient.scores,mine.activation_gradient.scores"
    given = ["logger.tags=[mine]", "hydra.sweep.dir=all", "-m"]
    given += [f"attribution._target_={methods}"]
    subprocess.run(GIT, shell=True, cwd=folder, check=True)
    with backend() as server:
        out, err = ended(start(server.url, folder, *toy, *given))
    return Swept(err, out, results.load(folder / "all"), list(server.runs.values()))


def test_every_job_is_a_run_of_its_own(swept: Swept) -> None:
    done, failed = swept.runs
    assert done.id != failed.id
    for run, result, method in zip(swept.runs, swept.found, METHODS, strict=True):
        assert run.told("displayName") == "adjectives-tiny-0.5-1"
        assert run.told("groupName") == result["sweep"]
        assert run.told("tags") == ["adjectives", "tiny", "prefix", method, "mine"]
        assert run.told("repo") == "https://example.org/mine.git"
        assert re.fullmatch("[0-9a-f]{40}", run.told("commit"))
        config = {key: result["config"][key] for key in run.config if key not in ("_wandb", "task")}
        assert {"tune", "prune", "seed", "cache", "output_dir"} <= config.keys()
        assert run.config["task"]["labels"] == ["bad", "good"]
        assert re.search(rf"W&B: http://\S+/{run.id}\n", swept.out)
    assert re.fullmatch(r"sweep-[0-9a-f]{8}", str(done.told("groupName")))


def test_a_run_ends_as_its_job_did(swept: Swept) -> None:
    done, failed = swept.runs
    assert (done.exit_code, failed.exit_code) == (0, 1)
    fields = results.flatten(swept.found[0])
    assert {name: done.summary.get(name) for name in fields} == fields
    assert failed.summary["status"] == "failed"
    assert failed.summary["error"] == swept.found[1]["error"]
    assert "mine.activation_gradient.scores" in failed.summary["error"]
    assert "metric/final" not in failed.summary


def test_the_picture_is_uploaded(swept: Swept) -> None:
    """So is the skill, which tests/logger/test_build.py finds beside an offline run."""
    done, failed = swept.runs
    place = Path(swept.found[0]["path"]).parent
    assert done.files[done.summary["keep"]["path"]] == (place / "keep.png").read_bytes()
    assert "keep" not in failed.summary


def test_a_backend_that_goes_away_ends_no_sweep(toy: list[str], tmp_path: Path) -> None:
    with backend() as server:
        sweep = start(server.url, tmp_path, *toy, "seed=1,2", "hydra.sweep.dir=all", "-m")
        wait_for_a_run(server, sweep)
        server.die()
        out, err = ended(sweep)
    assert (sweep.returncode, err) == (0, "")
    first, second = results.load(tmp_path / "all")
    assert (first["status"], second["status"]) == ("done", "done")
    told = [line for line in out.splitlines() if "wandb sync" in line]
    assert all(line.startswith("W&B: ") for line in told)
    gone, offline = [line.rpartition(": ")[2] for line in told]
    (run_id,) = server.runs
    assert re.fullmatch(rf"wandb sync --include-online all/0-\S+-{run_id}", gone)
    assert re.fullmatch(r"wandb sync all/1-\S+/wandb/offline-run-\*", offline)
    assert waited(Path(first["path"]).parent) < 45  # for W&B, after the last phase
    with backend() as server:
        for command in (gone, offline):
            sync(command, server, tmp_path)
    assert len(server.runs) == 2
    for result, run in zip((first, second), server.runs.values(), strict=True):
        assert run.summary["job_id"] == result["job_id"]
        assert len(run.curve("tune/select_accuracy")) == 2
        assert run.files[run.summary["keep"]["path"]]


def test_a_killed_job_goes_on_with_its_run(toy: list[str], tmp_path: Path) -> None:
    with backend() as server:
        job = start(server.url, tmp_path, *toy, "tune.epochs=20", "hydra.run.dir=killed")
        wait_for_a_run(server, job)
        job.kill()
        job.wait()  # W&B's own process holds the pipes
        job = start(server.url, tmp_path, *toy, "tune.epochs=20", "hydra.run.dir=again")
        assert (ended(job)[1], job.returncode) == ("", 0)
    (run,) = server.runs.values()
    assert (run.summary["status"], run.exit_code) == ("done", 0)
    steps = [step for step, _ in run.curve("tune/select_accuracy")]
    assert sorted({*steps}) == [*range(11, 240, 12)]


def waited(folder: Path) -> float:
    """Seconds between the last phase of a job and the last line of its log."""
    lines = (folder / "skip_exp.log").read_text().splitlines()
    (test,) = (line for line in lines if line.endswith("] test"))
    at = [datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S") for line in (test, lines[-1])]
    return (at[1] - at[0]).total_seconds()


def test_a_backend_that_never_answers_is_done_without(toy: list[str], tmp_path: Path) -> None:
    with backend() as server:
        server.hangs = True
        job = start(server.url, tmp_path, *toy, "trainer.progress=true", "hydra.run.dir=one job")
        out, err = ended(job)
    assert (job.returncode, err) == (0, "")
    (told,) = re.findall("^W&B: .*$", out, re.M)
    assert told.endswith("wandb sync 'one job/wandb'/offline-run-*")
    assert not server.runs
