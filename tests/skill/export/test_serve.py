"""The server of the examples, started by the command that docs/serving.md shows."""

import asyncio
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
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


@pytest.mark.parametrize(
    ("examples", "status", "limit"),
    [
        (["a" * 10_000_000], 413, "1000000 bytes"),
        (["a"] * 200_000, 422, "1000 at once"),
        (["dull"] * 1001, 422, "1000 at once"),
        (["dull", "a" * 20_001], 422, "20000 in a text"),
        ([""], 422, "1 character"),
        ([["  "]], 422, "1 character"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_and_the_limit_named(
    address: str, examples: list[Any], status: int, limit: str
) -> None:
    with pytest.raises(HTTPError) as refused:
        ask(address, examples)
    assert refused.value.code == status
    assert limit in json.loads(refused.value.read())["detail"]
    assert len(ask(address, ["dull"])) == 1


@pytest.mark.parametrize("content", [b"", b'["a', b"\xff", b'{"text": "a"}', b"[" * 100_000])
def test_what_is_no_list_in_json_is_refused(address: str, content: bytes) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(f"{address}/predict", content, serve.JSON), timeout=30)
    assert refused.value.code == 422


def test_requests_within_the_limits_are_answered(address: str) -> None:
    assert len(ask(address, ["dull"] * 1000)) == 1000
    assert len(ask(address, ["dull " * 4000])) == 1


def test_clients_that_hang_up_delay_nobody_else(address: str) -> None:
    content = json.dumps(["dull " * 100] * 1000).encode()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: serve.hang_up(address.removeprefix("http://"), content), range(16)))
    assert len(ask(address, ["dull"])) == 1


@pytest.fixture
def module(onnx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server's code in this process."""
    pytest.importorskip("fastapi")
    monkeypatch.setenv("SKILL", str(onnx_folder))
    spec = importlib.util.spec_from_file_location("example_serve", ROOT / "examples/serve.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "content", [b"[" + b"1," * 10_000 + b"1]", b"[[" + b"1," * 10_000 + b"1]]"]
)
def test_a_body_of_many_errors_takes_little_memory(module: Any, content: bytes) -> None:
    """Pydantic's errors take a thousand times as much as such a body."""
    tracemalloc.start()
    with pytest.raises(module.HTTPException, match="422"):
        module.check(content)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100 * len(content)


@pytest.mark.parametrize(
    ("gone_after", "is_whole", "batches"),
    [(None, True, 7), (0, True, 0), (1, True, 1), (3, True, 3), (0, False, 0)],
)
def test_no_further_batch_is_answered_for_a_client_that_has_gone(
    module: Any, gone_after: int | None, is_whole: bool, batches: int
) -> None:
    """Nor is one that has gone before its whole body came an error of the server."""
    sizes: list[int] = []

    class Counting:
        about = module.skill.about

        def predict(self, texts: list[list[str]]) -> list[dict[str, Any]]:
            sizes.append(len(texts))
            return [{"label": "no"}] * len(texts)

    module.skill = Counting()
    content = json.dumps(["dull"] * 100).encode()
    messages = [{"type": "http.request", "body": content, "more_body": not is_whole}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        if gone_after is None or len(sizes) < gone_after:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        pass

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
    scope |= {"query_string": b"", "http_version": "1.1", "asgi": {"version": "3.0"}}
    asyncio.run(module.app(scope, receive, send))
    assert sizes == [16, 16, 16, 16, 16, 16, 4][:batches]


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
