"""The state of a process that a call from Python must not change."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from skip_exp.utils.console import keep_logging


@contextmanager
def keep_state() -> Iterator[None]:
    """Leave the caller's random states, environment and loggers, and how torch computes."""
    exact = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    state, numpy_state, environment = random.getstate(), np.random.get_state(), {**os.environ}
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())), keep_logging():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
        torch.use_deterministic_algorithms(exact, warn_only=only_warns)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
