"""A hub on the loopback that takes commits and gives files back, in the words of its client."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "0123456789" * 4


class PushHub(ThreadingHTTPServer):
    """{repository: {file: bytes}}, the tokens that were shown, and the paths that were read."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str | None] = set()
        self.read: list[str] = []
        self.refusal: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: PushHub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def tell(self, value: Any, status: int = 200) -> None:
        self.answer(json.dumps(value).encode(), status, Content_Type="application/json")

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        parts = self.path.split("?")[0].strip("/").split("/")
        if self.server.refusal:
            self.tell({"error": self.server.refusal}, 403)
        elif parts[1:] == ["repos", "create"]:
            asked = json.loads(sent)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.server.tokens.add(self.headers["Authorization"])
            self.server.repos.setdefault(repo, {})
            self.tell({"url": f"{self.server.url}/{repo}"})
        elif "preupload" in parts:
            files = [each["path"] for each in json.loads(sent)["files"]]
            regular = {"uploadMode": "regular", "shouldIgnore": False}
            self.tell({"files": [{"path": path} | regular for path in files]})
        elif "commit" in parts:
            repo = "/".join(parts[2:4])
            for line in map(json.loads, sent.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.repos[repo][line["value"]["path"]] = content
                elif line["key"] == "deletedFile":
                    del self.server.repos[repo][line["value"]["path"]]
            address = f"{self.server.url}/{repo}/commit/{COMMIT}"
            self.tell({"commitUrl": address, "commitOid": COMMIT})
        else:
            self.tell({"errors": [], "warnings": []})  # of the card's YAML

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if is_api else parts[:2])
        if self.path == "/":
            self.answer(b"")
        elif repo not in self.server.repos:
            self.answer(b"", 404, X_Error_Code="RepoNotFound", X_Error_Message="no such thing")
        elif is_api and "tree" in parts:
            sizes = {name: len(content) for name, content in self.server.repos[repo].items()}
            file = {"type": "file", "oid": COMMIT}
            self.tell([{"path": name, "size": size} | file for name, size in sizes.items()])
        elif is_api:
            files = [{"rfilename": name} for name in self.server.repos[repo]]
            self.tell({"id": repo, "sha": COMMIT, "siblings": files})
        elif parts[-1] not in self.server.repos[repo]:
            self.answer(b"", 404, X_Error_Code="EntryNotFound", X_Error_Message="no such file")
        else:
            content = self.server.repos[repo][parts[-1]]
            self.server.read.append(parts[-1])
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            self.answer(content, ETag=tag, X_Repo_Commit=COMMIT)

    do_HEAD = do_GET


@contextmanager
def push_hub() -> Iterator[PushHub]:
    hub = PushHub()
    Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
