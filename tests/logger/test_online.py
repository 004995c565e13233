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
METHOD = "def scores(model, batches, tokens, sign, target, at): return None\n"  # fails
TAGS = ["adjectives", "tiny", "prefix", "activation_gradient", "mine"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    settings = ["tune.epochs=2", "retune.epochs=1", "retune.budget=0", "benchmark.enabled=false"]
    return [*save_toy(tmp_path_factory.mktemp("toy")), *settings, "logger=wandb"]


def client(url: str) -> dict[str, str]:
    """The environment of a user with an API key, whose server this is."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return env | {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "OMP_NUM_THREADS": "1"}


def start(url: str, folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """The command line in a process of its own, in ``folder``."""
    command, pipe = [sys.executable, "-m", "skip_exp", *overrides], subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=client(url), stdout=pipe, stderr=pipe, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a command printed; it does not outlive the test."""
    try:
        return process.communicate(timeout=300)
    finally:
        process.kill()


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
    with backend() as server:
        out, err = ended(start(server.url, folder, *toy, *given))
    return Swept(err, out, results.load(folder / "all"), list(server.runs.values()))


def test_every_job_is_a_run_of_its_own(swept: Swept) -> None:
    done, failed = swept.runs
    assert done.id != failed.id
    for run, result in zip(swept.runs, swept.found, strict=True):
        assert run.told("displayName") == "adjectives-tiny-0.5-1"
        assert run.told("groupName") == result["sweep"]
        assert run.told("tags") == TAGS
        config = {key: result["config"][key] for key in run.config if key not in ("_wandb", "task")}
        assert {"tune", "prune", "seed", "cache", "output_dir"} <= config.keys()
        assert {key: run.config[key] for key in config} == config
        assert run.config["task"]["labels"] == ["bad", "good"]
        assert re.search(rf"W&B: http://\S+/{run.id}\n", swept.out)
    assert re.fullmatch(r"sweep-[0-9a-f]{8}", str(done.told("groupName")))


def test_a_phase_has_curves_against_steps_of_its_own(swept: Swept) -> None:
    done, failed = swept.runs
    for run in swept.runs:
        assert run.axes == {"tune/*": "tune/step", "retune/*": "retune/step"}
    # 360 rows are 12 batches: two epochs, of which every tenth step is logged, then one.
    assert [step for step, _ in done.curve("tune/train_loss")] == [9, 19]
    assert [step for step, _ in done.curve("tune/select_accuracy")] == [11, 23]
    assert [step for step, _ in done.curve("retune/train_loss")] == [9]
    assert [step for step, _ in done.curve("retune/select_loss")] == [11]
    # Its tuned prompt came from the cache; the curves are shown all the same.
    scores = [[score for _, score in run.curve("tune/select_accuracy")] for run in swept.runs]
    assert scores[0] == pytest.approx(scores[1])
    assert not failed.curve("retune/select_loss")


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
    done, failed = swept.runs
    picture = Path(swept.found[0]["path"]).with_name("keep.png")
    assert done.files[done.summary["keep"]["path"]] == picture.read_bytes()
    assert "keep" not in failed.summary


def test_the_run_of_a_killed_job_is_tagged(toy: list[str], tmp_path: Path) -> None:
    with backend() as server:
        killed = start(server.url, tmp_path, *toy, "hydra.run.dir=old")
        wait_for_a_run(server, killed)
        killed.kill()
        killed.communicate()
        again = start(server.url, tmp_path, *toy, "hydra.run.dir=new", "logger.tags=[mine]")
        out, err = ended(again)
        assert again.returncode == 0, err
    old, new = server.runs.values()
    assert "an earlier attempt was killed, done again: old" in out
    assert old.told("tags") == [*TAGS[:-1], "superseded"]
    assert (old.exit_code, old.summary["status"]) == (1, "failed")
    assert old.summary["error"].startswith("superseded: ended without a result; done again in ")
    assert (new.exit_code, new.told("tags")) == (0, TAGS)


def test_a_backend_that_goes_away_ends_no_sweep(toy: list[str], tmp_path: Path) -> None:
    with backend() as server:
        sweep = start(server.url, tmp_path, *toy, "seed=1,2", "hydra.sweep.dir=all", "-m")
        wait_for_a_run(server, sweep)
        server.die()
        out, err = ended(sweep)
    assert (sweep.returncode, err) == (0, "")
    first, second = results.load(tmp_path / "all")
    assert (first["status"], second["status"]) == ("done", "done")
    gone, offline = [line.strip() for line in out.splitlines() if "wandb sync" in line]
    gone_for, _, gone = gone.rpartition(": ")
    assert gone_for == "W&B does not answer any more; upload this run later"
    (run_id,) = server.runs
    assert re.fullmatch(rf"wandb sync --include-online all/0-\S+-{run_id}", gone)
    assert re.fullmatch(r"wandb sync all/1-\S+/wandb/offline-run-\*", offline)
    assert waited(Path(first["path"]).parent) < 30  # for W&B, after the last phase
    with backend() as server:
        for command in (gone, offline):
            typed = f"{sys.executable} -m {command}"
            subprocess.run(typed, shell=True, cwd=tmp_path, env=client(server.url), check=True)
    assert len(server.runs) == 2
    for result, run in zip((first, second), server.runs.values(), strict=True):
        assert run.summary["job_id"] == result["job_id"]
        assert len(run.curve("tune/select_accuracy")) == 2
        assert run.files[run.summary["keep"]["path"]]


def waited(folder: Path) -> float:
    """Seconds between the last phase of a job and the last line of its log."""
    lines = (folder / "skip_exp.log").read_text().splitlines()
    (test,) = (line for line in lines if line.endswith(": test ..."))
    at = [datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S") for line in (test, lines[-1])]
    return (at[1] - at[0]).total_seconds()


def test_a_backend_that_never_answers_is_done_without(toy: list[str], tmp_path: Path) -> None:
    with backend() as server:
        server.hangs = True
        job = start(server.url, tmp_path, *toy, "trainer.progress=true", "hydra.run.dir=one")
        out, err = ended(job)
    assert (job.returncode, err) == (0, "")
    assert len(re.findall("W&B cannot be reached, logging offline: ", out)) == 1
    assert "W&B: offline; upload with:\n  wandb sync one/wandb/offline-run-*\n" in out
    assert not server.runs
    # Beside it: what a job says where nobody watches.
    phases = re.findall(r"^(\w+) \.\.\.$", out, re.M)
    assert phases == ["tune", "attribute", "prune", "retune", "test"]
    assert re.findall(r"^(\w+: epoch \d of \d): ", out, re.M) == [
        *("tune: epoch 1 of 2", "tune: epoch 2 of 2", "retune: epoch 1 of 1")
    ]
    assert "\r" not in out
