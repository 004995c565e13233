"""No test reaches a hub or a W&B server; several workers share the machine's cores."""

import gc
import logging
import os
import sys
import types
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "TOKENIZERS_PARALLELISM": "false"}
for name in ("WANDB_API_KEY", "WANDB_PROJECT", "SKIP_EXP_DATA", "HYDRA_FULL_ERROR"):
    os.environ.pop(name, None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """What is imported is no garbage, and looking through it takes long: now and in the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@dataclass
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str
    jobs: list[Any] = field(default_factory=list)  # configurations that reached the pipeline


Cli = Callable[..., Ended]


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The overrides of a tiny job, whose backbone and rows are not to be changed."""
    from tests.helpers.toy import save_toy

    return save_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A BERT's skill, as `tests.helpers.saved.Saved`; not to be changed."""
    from tests.helpers.saved import save_tiny_skill

    return save_tiny_skill(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def saved(tiny: Any) -> Path:
    """The folder of that skill."""
    return tiny.folder


@pytest.fixture(scope="session")
def onnx_packages() -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)


@pytest.fixture(autouse=True, scope="session")
def quick() -> Iterator[None]:
    """Jobs of this process do without what takes longer than a phase.

    They draw no picture, the ranges of activations are of few texts, and so are timings. Groups of
    configuration are composed once.
    """
    from tests.helpers import composing

    with pytest.MonkeyPatch.context() as patched:
        composing.remember(patched)
        if finish := sys.modules.get("skip_exp.phases.finish"):
            patched.setattr(finish, "save_picture", lambda _, path: path.write_bytes(b"drawn"))
        if ranges := sys.modules.get("skip_exp.skill.ranges"):
            patched.setattr(ranges, "TEXTS", 32)
        if timing := sys.modules.get("skip_exp.within.measure"):
            patched.setattr(timing, "SECONDS", 0.0)
        yield


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> Iterator[Cli]:
    """``cli("+task=rte", "-m", run=...)``: the command line in this process, the pipeline a fake.

    ``run(cfg)`` stands in for ``pipeline.run``; the default writes a finished result.
    """
    import skip_exp
    from skip_exp.__main__ import main
    from skip_exp.sweep import finish

    root, package = logging.getLogger(), logging.getLogger("skip_exp")
    before, level = (root.handlers[:], root.level), package.level
    monkeypatch.chdir(tmp_path)

    def start(*args: str, run: Callable[[Any], Any] | None = None) -> Ended:
        jobs: list[Any] = []

        def fake(cfg: Any) -> Any:
            jobs.append(cfg)
            return (run or finished)(cfg)

        module = types.ModuleType("skip_exp.pipeline")
        module.run = fake  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "skip_exp.pipeline", module)
        monkeypatch.setattr(skip_exp, "pipeline", module, raising=False)
        monkeypatch.setattr(sys, "argv", ["skip_exp", *args])
        state = finish.State()
        monkeypatch.setattr(finish, "_state", state)
        capsys.readouterr()
        full_error = os.environ.get("HYDRA_FULL_ERROR")
        try:
            code = main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            os.environ.pop("HYDRA_FULL_ERROR", None)
            os.environ |= {"HYDRA_FULL_ERROR": full_error} if full_error else {}
            if state.lock:
                state.lock.release()  # as the end of the process does
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err, jobs)

    yield start
    logging.captureWarnings(False)
    for handler in set(root.handlers) - set(before[0]):
        handler.close()
    root.handlers[:], root.level = before
    package.setLevel(level)


def finished(cfg: Any) -> None:
    """A job that is done: its result file says so, and a skill lies beside it."""
    from skip_exp import results

    result = results.Result(
        task=cfg.task.name,
        backbone=cfg.backbone.name,
        ratio=cfg.prune.given_ratio,
        seed=cfg.seed,
        sweep=cfg.sweep.id,
        skill="skill",
        metric=results.MainScores(name="accuracy", dense=0.8, pruned=0.7, final=0.75),
        finished=results.now(),
    )
    results.write(cfg.output_dir, result)
    (Path(cfg.output_dir) / "skill").mkdir(exist_ok=True)
