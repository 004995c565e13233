"""A call from Python leaves the process as it was."""

import logging
import os
import random
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

import skip_exp
from skip_exp.utils import console
from tests.helpers.toy import save_toy


def test_random_states_and_determinism_are_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    before = torch.are_deterministic_algorithms_enabled()
    L.seed_everything(3, verbose=False)
    expected = draws()
    L.seed_everything(3, verbose=False)
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    with pytest.raises(KeyError), console.keep_state():
        L.seed_everything(5, verbose=False)
        torch.use_deterministic_algorithms(not before)
        raise KeyError
    assert draws() == expected
    assert torch.are_deterministic_algorithms_enabled() == before
    assert os.environ["PL_GLOBAL_SEED"] == "7"


@pytest.mark.parametrize("precision", ["medium", "highest"])
def test_products_are_exact_within_a_job_and_the_callers_after_it(precision: str) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        with console.keep_state():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def process() -> tuple[Any, ...]:
    """The environment, the warning filters and every logger's level and handlers."""
    names = ["", *logging.root.manager.loggerDict]
    loggers = [logging.getLogger(name) for name in names]
    levels = {each.name: (each.level, each.propagate, each.handlers[:]) for each in loggers}
    return {**os.environ}, warnings.filters[:], levels


def test_environment_warnings_and_loggers_are_the_callers(tmp_path: Path) -> None:
    toy = save_toy(tmp_path)
    backbone = [each for each in toy if not each.startswith(("task.", "+task."))]
    lightning, mine = logging.getLogger("lightning"), logging.NullHandler()
    lightning.addHandler(mine)
    lightning.setLevel(logging.DEBUG)
    before = process()
    try:
        more = ["tune.epochs=1", "retune.epochs=1", "benchmark.enabled=false"]
        skip_exp.fit(
            tmp_path / "train.csv",
            output=tmp_path / "out",
            overrides=[*backbone, *more],
        )
        environment, filters, levels = process()
        assert (environment, filters) == before[:2]
        assert {name: levels[name] for name in before[2]} == before[2]
        assert mine in lightning.handlers
    finally:
        lightning.removeHandler(mine)
        lightning.setLevel(logging.INFO)
