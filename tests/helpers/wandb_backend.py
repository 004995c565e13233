"""A stub of W&B's backend on the loopback: it agrees to everything and remembers what came.

It has what wandb-core needs to keep a run online: ``UpsertBucket``, addresses to put files at, the
file stream and alerts. It checks nothing, so that a newer client gets through as well.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "team"


@dataclass
class Run:
    """What one run told the backend."""

    id: str
    upserts: list[dict[str, Any]] = field(default_factory=list)  # variables, in their order
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)  # of the history, by line
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def told(self, variable: str) -> Any:
        """What a variable of the run was last set to; None where it never was."""
        values = [upsert[variable] for upsert in self.upserts if upsert.get(variable) is not None]
        return values[-1] if values else None

    @property
    def config(self) -> dict[str, Any]:
        return {key: entry["value"] for key, entry in json.loads(self.told("config")).items()}

    def curve(self, name: str) -> list[tuple[int, float]]:
        """(step of its phase, value) of every row that has the metric."""
        step = f"{name.partition('/')[0]}/step"
        rows = [row for _, row in sorted(self.rows.items())]
        return [(row[step], row[name]) for row in rows if name in row]


class Backend:
    """The stub: ``url`` goes into WANDB_BASE_URL, ``runs`` is what came, by the run's id."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.hangs = False  # requests get no answer any more
        handler = type("Handler", (_Handler,), {"backend": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def die(self) -> None:
        """Connections are refused from now on."""
        self.hangs = True  # those that are open
        self._server.shutdown()
        self._server.server_close()

    def run(self, name: str) -> Run:
        return self.runs.setdefault(name, Run(name))

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        match operation:
            case "UpsertBucket":
                self.run(given["name"]).upserts.append(given)
                return {"upsertBucket": {"bucket": _bucket(given), "inserted": True}}
            case "CreateRunFiles":
                at = f"{self.url}/put/{given['run']}"
                files = [{"name": name, "uploadUrl": f"{at}/{name}"} for name in given["files"]]
                about = {"runID": given["run"], "uploadHeaders": [], "files": files}
                return {"createRunFiles": about}
            case "RunResumeStatus":
                entity = {"id": "e", "name": ENTITY}
                known = self.runs.get(given["name"])
                bucket = _resumed(known) if known else None
                return {"model": {"id": "m", "name": "p", "entity": entity, "bucket": bucket}}
            case "NotifyScriptableRunAlert":
                self.run(given["runName"]).alerts.append(given)
                return {"notifyScriptableRunAlert": {"success": True}}
            case "Viewer":
                return {"viewer": {"id": "u", "entity": ENTITY, "username": "user"}}
            case "CreateArtifact":  # as one that is there already: its files are not asked for
                sequence = {"id": "s", "latestArtifact": None}
                artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}
                return {"createArtifact": {"artifact": artifact}}
            case _:
                return {}

    def stream(self, run: Run, told: dict[str, Any]) -> None:
        for name, chunk in (told.get("files") or {}).items():
            lines = [json.loads(line) for line in chunk["content"] if line.startswith("{")]
            if name == "wandb-history.jsonl":
                run.rows |= dict(enumerate(lines, chunk["offset"]))
            elif name == "wandb-summary.json":
                run.summary = lines[-1]
        if told.get("complete"):
            run.exit_code = told["exitcode"]


def _named(query: str) -> str:
    """The operation's name, where the client tells it in the query only."""
    return re.search(r"(?:query|mutation)\s+(\w+)", query)[1]  # type: ignore[index]


def _bucket(given: dict[str, Any]) -> dict[str, Any]:
    project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": ENTITY}}
    return {
        **{"id": given["name"], "name": given["name"], "displayName": given["displayName"]},
        **{"description": "", "config": "{}", "sweepName": None, "project": project},
        "historyLineCount": 0,
    }


def _resumed(run: Run) -> dict[str, Any]:
    """What a client asks of a run that it goes on with."""
    rows = [json.dumps(row) for _, row in sorted(run.rows.items())]
    return {
        **{"id": run.id, "name": run.id, "displayName": run.told("displayName"), "tags": []},
        **{"historyLineCount": len(rows), "eventsLineCount": 0, "logLineCount": 0},
        **{"historyTail": json.dumps(rows[-1:]), "eventsTail": "[]"},
        **{"summaryMetrics": json.dumps(run.summary), "config": run.told("config")},
        "wandbConfig": json.dumps({"t": {}}),
    }


class _Handler(BaseHTTPRequestHandler):
    backend: Backend
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the client is gone, or the server
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        told, data = self._body(), {}
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
        if self.path == "/graphql":
            request = json.loads(told)
            operation = request.get("operationName") or _named(request["query"])
            given = request.get("variables") or {}
            data = {"data": self.backend.answer(operation, given)}
        elif stream:
            self.backend.stream(self.backend.run(stream[1]), json.loads(told))
        self._answer(data)

    def do_PUT(self) -> None:
        _, _, owner, name = self.path.split("/", 3)
        self.backend.run(owner).files[name] = self._body()
        self._answer({})

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length")
        self.close_connection = length is None  # in chunks: telemetry, left unread
        body = self.rfile.read(int(length or 0))
        while self.backend.hangs:
            time.sleep(0.1)
        return body

    def _answer(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def backend() -> Iterator[Backend]:
    """A stub that serves until the block ends."""
    served = Backend()
    try:
        yield served
    finally:
        served.die()
