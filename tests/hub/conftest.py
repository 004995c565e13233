"""A hub on the loopback with tiny models and tables under the real ids."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.hub import Hub, serving
from tests.helpers.published import publish_models, publish_tables


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    publish_tables(root)
    return root


@pytest.fixture(scope="session")
def everything(tables: Path) -> Path:
    publish_models(tables)
    return tables


@pytest.fixture
def hub(everything: Path) -> Iterator[Hub]:
    with serving(everything) as hub:
        yield hub
