"""The notebook, its cells in order; a line after ``!`` is a command of the shell."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from skip_exp.models import embedded
from tests.helpers.written import ROOT

NOTEBOOK = json.loads((ROOT / "examples/quickstart.ipynb").read_text(encoding="utf-8"))
COMMAND = re.compile(r"^!((?:.*\\\n)*.*)$", re.MULTILINE)


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
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    names: dict[str, Any] = {"run": lambda text: subprocess.run(text, shell=True, check=True)}
    for cell in code():
        exec(COMMAND.sub(lambda found: f"run({found[1]!r})", cell), names)
    printed = capsys.readouterr().out
    assert re.search(r"^final +[\d.]+ % accuracy$", printed, re.MULTILINE)
    assert re.search(r"^the skill: \d+ kB$", printed, re.MULTILINE)
    assert "'model.safetensors'" in printed
