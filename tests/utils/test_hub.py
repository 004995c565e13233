import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import datasets
import pytest
from huggingface_hub import is_offline_mode

from skip_exp.utils import hub


@pytest.fixture(autouse=True)
def undecided(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Not offline by environment, nothing decided, everything restored."""
    for module in (hub.constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    decision = hub.hub_reachable  # some tests replace it
    decision.cache_clear()
    yield
    decision.cache_clear()


def serve(status: int, asked: list[str]) -> tuple[HTTPServer, str]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(
    ("status", "reachable"), [(200, True), (404, True), (403, False), (503, False)]
)
def test_the_answer_decides_once(
    monkeypatch: pytest.MonkeyPatch, status: int, reachable: bool
) -> None:
    asked: list[str] = []
    server, url = serve(status, asked)
    monkeypatch.setattr(hub.constants, "ENDPOINT", url)
    assert hub.hub_reachable() is reachable
    assert hub.hub_reachable() is reachable
    server.shutdown()
    server.server_close()
    assert len(asked) == 1


def test_a_silent_hub_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # accepts, never answers
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setattr(hub.constants, "ENDPOINT", url)
        monkeypatch.setattr(hub, "TIMEOUT", 0.3)
        start = time.perf_counter()
        assert not hub.hub_reachable()
        assert time.perf_counter() - start < 2
        hub.hub_reachable.cache_clear()
        monkeypatch.setattr(hub, "ask", lambda: time.sleep(1) or True)  # slow name resolution
        assert not hub.hub_reachable()


def test_offline_by_environment_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "ask", lambda: pytest.fail("asked"))
    assert not hub.hub_reachable()


@pytest.mark.parametrize("reachable", [True, False])
def test_clients_go_offline_only_if_the_hub_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, reachable: bool
) -> None:
    with pytest.raises(ValueError), hub.offline():
        assert is_offline_mode() and datasets.config.HF_HUB_OFFLINE
        raise ValueError
    monkeypatch.setattr(hub, "hub_reachable", lambda: reachable)
    hub.offline_if_unreachable()
    assert is_offline_mode() is datasets.config.HF_HUB_OFFLINE is not reachable


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("many\nlines"), "many lines https://hub/a/b HF_TOKEN"),
        (ValueError("Config name is missing.\nOne of:  a, b"), "missing. One of: a, b"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_what_the_hub_refuses_is_one_line_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    monkeypatch.setattr(hub.constants, "ENDPOINT", "https://hub")
    monkeypatch.setattr(hub, "hub_reachable", lambda: True)
    line = hub.explain_failure(error, "a/b")
    assert all(word in line for word in says.split()) and "\n" not in line
