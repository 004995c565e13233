"""The state of a process that a call from Python must not change."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

SEED = "PL_GLOBAL_SEED"  # where Lightning notes the seed for its workers


@contextmanager
def kept() -> Iterator[None]:
    """Leave the caller's random states, and how torch computes, as they were."""
    exact = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    seed, state, numpy_state = os.environ.get(SEED), random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
        torch.use_deterministic_algorithms(exact, warn_only=only_warns)
        os.environ.pop(SEED, None)
        if seed is not None:
            os.environ[SEED] = seed
