"""A hub on the loopback: the Hugging Face hub's wire format over a folder of repositories.

``root/models/OWNER/NAME/FILE`` and ``root/datasets/OWNER/NAME/FILE``; one commit each.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
API = re.compile(rf"/api/(?P<kind>models|datasets)/{REPO}(?P<rest>/.*)?$")
FILE = re.compile(rf"/(?P<kind>datasets/)?{REPO}/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")
STORED = (".safetensors", ".parquet")  # not in git: the hub redirects to where they are


class Hub:
    """What is served, and what was asked.

    Attributes:
        gated: repositories that nobody may read.
        asked: ``METHOD path`` of every request.
        tokens: what commits were signed with.
        refusal: why nobody may commit; None: all may.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.refusal: str | None = None
        self.url = ""

    def folder(self, kind: str, repo: str) -> Path:
        return self.root / kind / repo

    def environment(self, home: Path) -> dict[str, str]:
        """Variables of a process that knows this hub only, its caches in ``home``."""
        own = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "WANDB_MODE": "offline",
            "OMP_NUM_THREADS": "1",
        }
        dropped = ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "HF_DATASETS_CACHE")
        return {k: v for k, v in os.environ.items() if k not in (*dropped, "SKIP_EXP_DATA")} | own


def commit(folder: Path) -> str:
    """A name for the state of a repository."""
    digest = hashlib.sha1()
    for path in files(folder):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def etag(path: Path) -> str:
    """SHA-256 of what is stored elsewhere, else git's hash of a file."""
    content = path.read_bytes()
    if path.suffix in STORED:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def described(path: Path, folder: Path) -> dict[str, Any]:
    """An entry of a tree."""
    name, size = str(path.relative_to(folder)), path.stat().st_size if path.is_file() else 0
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
    entry = {"type": "file", "path": name, "size": size, "oid": etag(path)[:40]}
    if path.suffix in STORED:
        entry["lfs"] = {"oid": etag(path), "size": size, "pointerSize": 130}
    return entry


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if "paths-info" in parts:
            self.do_GET()
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.hub.refusal:
            self.answer(403, {"Content-Type": "application/json", "X-Error-Message": "not yours"})
        elif parts[1:] == ["repos", "create"]:
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.hub.tokens.add(self.headers["Authorization"])
            self.hub.folder("models", repo).mkdir(parents=True, exist_ok=True)
            self.json({"url": f"{self.hub.url}/{repo}"})
        elif "preupload" in parts:
            regular = {"uploadMode": "regular", "shouldIgnore": False}
            self.json({"files": [file | regular for file in json.loads(body)["files"]]})
        elif "commit" in parts:
            folder = self.hub.folder("models", "/".join(parts[2:4]))
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    path = folder / line["value"]["path"]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                elif line["key"] == "deletedFile":
                    (folder / line["value"]["path"]).unlink()
            oid = commit(folder)
            address = f"{self.hub.url}/{folder.relative_to(self.hub.root / 'models')}/commit/{oid}"
            self.json({"commitUrl": address, "commitOid": oid})
        else:
            self.json({"errors": [], "warnings": []})  # of the card's YAML

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        if path == "/":
            self.answer(200)
        elif match := API.match(path):
            self.about(match["kind"], match["repo"], match["rest"] or "", body)
        elif match := FILE.match(path):
            self.file("datasets" if match["kind"] else "models", match)
        elif path.startswith("/stored/"):
            self.content(self.hub.root / path.removeprefix("/stored/"), {})
        else:
            self.answer(404)

    def about(self, kind: str, repo: str, rest: str, body: bytes) -> None:
        folder = self.hub.folder(kind, repo)
        if not folder.is_dir():
            self.missing_repo()
        elif rest == "" or rest.startswith("/revision/"):
            siblings = [{"rfilename": str(path.relative_to(folder))} for path in files(folder)]
            gated = "manual" if repo in self.hub.gated else False
            info = {"_id": "0", "id": repo, "sha": commit(folder), "private": False, "tags": []}
            self.json(info | {"gated": gated, "disabled": False, "siblings": siblings})
        elif tree := re.match(r"/tree/[^/]+(?:/(.*))?$", rest):
            inside = folder / (tree[1] or "")
            if not inside.is_dir():
                self.answer(404, {"X-Error-Code": "EntryNotFound"})
                return
            recursive = "recursive=true" in self.path.lower() or "recursive=1" in self.path
            paths = inside.rglob("*") if recursive else inside.iterdir()
            self.json([described(path, folder) for path in sorted(paths)])
        elif rest.startswith("/paths-info/"):
            asked = json.loads(body)["paths"]
            asked = [asked] if isinstance(asked, str) else asked
            found = [folder / name for name in asked if (folder / name).exists()]
            self.json([described(path, folder) for path in found])
        else:
            self.answer(404)

    def file(self, kind: str, match: re.Match[str]) -> None:
        folder = self.hub.folder(kind, match["repo"])
        path = folder / match["file"]
        if not folder.is_dir():
            self.missing_repo()
        elif match["repo"] in self.hub.gated:
            says = f"Access to model {match['repo']} is restricted. Please log in."
            self.answer(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": says})
        elif match["revision"] not in ("main", commit(folder)):
            self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        elif not path.is_file():
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit(folder)}
            self.answer(404, headers | {"X-Error-Message": "Entry not found"})
        elif path.suffix in STORED:
            elsewhere = self.hub.url.replace("127.0.0.1", "localhost")  # another host, as a CDN is
            where = f"{elsewhere}/stored/{path.relative_to(self.hub.root)}"
            linked = {"X-Linked-Size": str(path.stat().st_size), "X-Linked-Etag": f'"{etag(path)}"'}
            self.answer(302, {"X-Repo-Commit": commit(folder), "Location": where} | linked)
        else:
            self.content(path, {"X-Repo-Commit": commit(folder)})

    def content(self, path: Path, headers: dict[str, str]) -> None:
        whole = path.read_bytes()
        headers |= {"ETag": f'"{etag(path)}"'}
        self.answer(200, headers, whole)

    def missing_repo(self) -> None:
        says = "Invalid username or password."  # to who has no account: it may be private
        self.answer(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": says})

    def json(self, value: object) -> None:
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    """A hub with the repositories in ``root``, gone after the block."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
