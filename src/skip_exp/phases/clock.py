"""Wall-clock time of the phases."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


class Clock:
    """Announces each phase and measures it; ``seconds`` by phase, and of all since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.phases: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Measure one phase."""
        log.info("%s ...", phase)
        start = time.perf_counter()
        yield
        self.phases[phase] = time.perf_counter() - start

    @property
    def seconds(self) -> dict[str, float]:
        return self.phases | {"total": time.perf_counter() - self.start}
