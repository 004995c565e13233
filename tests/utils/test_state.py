"""A call from Python leaves the process as it was."""

import os
import random

import lightning as L
import numpy as np
import pytest
import torch

from skip_exp.utils import state


def test_random_states_and_determinism_are_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    monkeypatch.setenv(state.SEED, "7")
    before = torch.are_deterministic_algorithms_enabled()
    L.seed_everything(3, verbose=False)
    expected = draws()
    L.seed_everything(3, verbose=False)
    monkeypatch.setenv(state.SEED, "7")
    with pytest.raises(KeyError), state.kept():
        L.seed_everything(5, verbose=False)
        torch.use_deterministic_algorithms(not before)
        raise KeyError
    assert draws() == expected
    assert torch.are_deterministic_algorithms_enabled() == before
    assert os.environ[state.SEED] == "7"
