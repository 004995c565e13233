"""Backbones are read once per process; here once per test."""

from collections.abc import Iterator

import pytest

from skip_exp.backbones.load import load_backbone


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    load_backbone.cache_clear()
    yield
    load_backbone.cache_clear()
