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

from skip_exp import OnnxSkill
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
