"""The server of the examples, started by the command that docs/serving.md shows."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from benchmarks import serve
from skip_exp import OnnxSkill
from tests.helpers.saved import Saved
from tests.helpers.written import ROOT

TEXTS = ["a warm film", "dull", "very good", "the plot is long"]


@pytest.fixture(scope="module")
def address(onnx_folder: Path) -> Iterator[str]:
    for package in ("fastapi", "uvicorn"):
        pytest.importorskip(package)
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    (words,) = re.findall(r"^SKILL=\S+ uvicorn (.*)$", page, re.MULTILINE)
    command = [sys.executable, "-m", "uvicorn", *shlex.split(words), "--port", "0"]
    server = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"SKILL": str(onnx_folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr
    found = None
    while found is None and (line := server.stderr.readline()):
        found = re.search(r"http://[\d.]+:\d+", line)
    assert found, "the server has ended"
    yield found[0]
    server.terminate()
    server.communicate()


def ask(address: str, examples: object) -> list[dict[str, object]]:
    body = json.dumps(examples).encode()
    question = Request(f"{address}/predict", body, {"Content-Type": "application/json"})
    with urlopen(question, timeout=30) as answer:
        return json.loads(answer.read())


def test_eight_clients_at_once_get_the_skills_answers(address: str, onnx_folder: Path) -> None:
    skill = OnnxSkill.load(onnx_folder)
    asked = [TEXTS[i % 4 :] + TEXTS[: i % 4] for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda texts: ask(address, texts), asked))
    assert answers == [skill.predict(texts) for texts in asked]


@pytest.mark.parametrize("examples", [[["a", "pair"]], [{"no": "column"}], [1], "a text"])
def test_an_example_that_does_not_fit_is_refused(address: str, examples: object) -> None:
    with pytest.raises(HTTPError) as refused:
        ask(address, examples)
    assert refused.value.code == 422
    assert json.loads(refused.value.read())["detail"]


@pytest.mark.slow  # starts two servers, one of them with torch
def test_a_skill_and_its_export_are_measured(
    tiny: Saved,
    onnx_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = [str(tiny.folder), str(onnx_folder)]
    few = ["--threads", "1", "--clients", "1", "3", "--requests", "12"]
    monkeypatch.setattr(sys, "argv", ["serve", *models, *few])
    serve.main()
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[4:]]
    assert [line[0].removeprefix("| ") for line in lines] == [m for m in models for _ in few[3:5]]
    assert [line[2] for line in lines] == ["1", "3"] * 2
