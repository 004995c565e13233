"""The notebook, its cells in order."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from skip_exp.backbones import embedded
from tests.helpers.written import ROOT

NOTEBOOK = json.loads((ROOT / "examples/quickstart.ipynb").read_text(encoding="utf-8"))


@pytest.fixture
def undrawn() -> None:
    """The notebook shows the picture, which other tests do without."""


def code() -> list[str]:
    return ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]


def test_it_is_stored_without_what_a_run_printed() -> None:
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]


@pytest.mark.slow
def test_every_cell_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip(embedded.PACKAGE)
    matplotlib.use("agg")
    monkeypatch.chdir(Path.cwd())  # back again at the end
    names: dict[str, Any] = {}
    for cell in code():
        exec(cell, names)
    printed = capsys.readouterr().out
    assert re.search(r"^final +[\d.]+ % accuracy$", printed, re.MULTILINE)
    assert re.search(r"^the skill: \d+ kB$", printed, re.MULTILINE)
    assert "'model.safetensors'" in printed
