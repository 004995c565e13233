"""The server of the examples under load: requests a second, and how long one request takes.

Example:

    python -m benchmarks.serve outputs/.../skill uncut-int8 cut-int8

Each model is a skill's folder or an ONNX export, for single texts. uvicorn serves it on the
loopback, with one and with two threads, to 1, 4 and 16 clients. A request has one text. Every
answer is compared with the one that its text got from an idle server. Clients share the machine's
cores with the server. Memory is the server's peak, before and after the load.

With ``--limits``, requests beyond the server's limits, and clients that hang up while another one
asks: the status of each and the server's memory.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import skip_exp
from skip_exp.utils.files import hold_machine
from skip_exp.utils.machine import processor

ROOT = Path(__file__).resolve().parents[1]
TEXTS = Path(skip_exp.__file__).parent / "data/embedded/banking77/validation.parquet"
DISTINCT = 200  # texts
JSON = {"Content-Type": "application/json"}
SAME = 1e-4  # the largest difference of a probability
HEAD = ("model", "threads", "clients", "requests/s", "p50, p95, p99 (ms)", "peak memory (MB)")
Answer = Mapping[str, Any]


@contextmanager
def serve(model: Path, threads: int) -> Iterator[tuple[str, int]]:
    """A server until the block ends: its ``host:port`` and the number of its process."""
    command = ["uvicorn", "--app-dir", "examples", "serve:app", "--port", "0", "--no-access-log"]
    server = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | {"SKILL": str(model.resolve()), "OMP_NUM_THREADS": str(threads)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found, line = None, ""
        while found is None and server.poll() is None:
            line = server.stderr.readline() or line  # type: ignore[union-attr]
            found = re.search(r"http://(\S+:\d+)", line)
        if found is None:
            sys.exit(f"error: {model}: the server has ended: {line.strip()}")
        yield found[1], server.pid
    finally:
        server.terminate()
        server.communicate()


def ask(connection: HTTPConnection, text: str) -> Answer:
    """The answer to one text."""
    connection.request("POST", "/predict", json.dumps([text]), JSON)
    reply = connection.getresponse()
    content = json.load(reply)
    if reply.status != 200:
        sys.exit(f"error: {text!r}: the server says {reply.status}: {content}")
    return content[0]


def run_client(
    address: str, expected: Mapping[str, Answer], requests: int, end: float, number: int
) -> list[float]:
    """Seconds of each of ``requests``, or of as many as fit before the time ``end``."""
    connection, seconds = HTTPConnection(address, timeout=60), []
    # Clients differ in their texts.
    for text in islice(cycle(expected), number, number + requests):
        start = time.perf_counter()
        if start > end:
            break
        answer = ask(connection, text)
        seconds.append(time.perf_counter() - start)
        wanted = expected[text]["probabilities"]
        drift = max(abs(answer["probabilities"][label] - wanted[label]) for label in wanted)
        if drift > SAME:
            sys.exit(f"error: {text!r}: another answer under load, by {drift:.1e}: {answer}")
    return seconds


def load(
    address: str, expected: Mapping[str, Answer], clients: int, requests: int, seconds: float
) -> tuple[float, list[float]]:
    """Requests a second of ``clients`` at once, and the milliseconds of each request."""
    start = time.perf_counter()
    one = partial(run_client, address, expected, requests // clients, start + seconds)
    with ThreadPoolExecutor(clients) as pool:
        waited = [1e3 * s for each in pool.map(one, range(clients)) for s in each]
    return len(waited) / (time.perf_counter() - start), waited


def peak(process: int) -> float:
    """The largest memory of a process so far, in MB; of Linux alone."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 / 1e6


def hang_up(address: str, content: bytes) -> None:
    """Ask, and close the connection without waiting for an answer."""
    host, port = address.split(":")
    head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in JSON.items()) + "\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.encode() + content)


def send(address: str, content: bytes) -> int:
    """The status of the answer to a body."""
    connection = HTTPConnection(address, timeout=300)
    connection.request("POST", "/predict", content, JSON)
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply.status


def exceed(model: Path, rounds: int) -> Iterator[tuple[Any, ...]]:
    """What is asked, how often, the statuses, the seconds of the slowest, the server's memory."""
    text = "a film " * 140
    bodies = {
        "one text": b'["a film"]',
        "10 MB": json.dumps(["a" * 10**7]).encode(),
        "200,000 texts": json.dumps(["a"] * 200_000).encode(),
        "1,001 texts": json.dumps(["a"] * 1001).encode(),
        "20,001 characters": json.dumps(["a" * 20_001]).encode(),
        "400,000 numbers": b"[" + b"1," * 399_999 + b"1]",
        "an empty text": b'[""]',
        "bad JSON": b'["a',
    }
    with serve(model, 1) as (address, process), ThreadPoolExecutor(16) as pool:
        # What answers take at most: as many batches at once as the server answers.
        start = time.perf_counter()
        seen = {*pool.map(partial(send, address), [json.dumps([text] * 64).encode()] * 16)}
        seconds = time.perf_counter() - start
        yield "64 long texts by 16 clients", 16, seen, f"{seconds:.2f}", f"{resident(process):.0f}"
        for name, content in bodies.items():
            seen = set()
            slowest = 0.0
            for _ in range(rounds):
                start = time.perf_counter()
                seen.add(send(address, content))
                slowest = max(slowest, time.perf_counter() - start)
            yield name, rounds, seen, f"{slowest:.2f}", f"{resident(process):.0f}"
        slowest = 0.0
        for _ in range(rounds):
            list(pool.map(partial(hang_up, address), [json.dumps([text] * 1000).encode()] * 16))
            start = time.perf_counter()
            ask(HTTPConnection(address, timeout=60), "a film")
            slowest = max(slowest, time.perf_counter() - start)
        memory = f"{resident(process):.0f}"
        yield "one text, after 16 hung up", rounds, {200}, f"{slowest:.2f}", memory


def resident(process: int) -> float:
    """The memory of a process now, in MB; of Linux alone."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024 / 1e6


def measure(model: Path, threads: int, options: argparse.Namespace) -> Iterator[tuple[Any, ...]]:
    """The cells of HEAD for each number of clients."""
    texts = pd.read_parquet(TEXTS)["text"].drop_duplicates().sample(DISTINCT, random_state=0)
    with serve(model, threads) as (address, process):
        connection = HTTPConnection(address, timeout=60)
        expected = {text: ask(connection, text) for text in texts}
        for clients in options.clients:
            before = peak(process)
            rate, waited = load(address, expected, clients, options.requests, options.seconds)
            spread = ", ".join(f"{p:.1f}" for p in np.percentile(waited, (50, 95, 99)))
            memory = f"{before:.0f} to {peak(process):.0f}"
            yield model, threads, clients, f"{rate:,.0f}", spread, memory


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--threads", nargs="+", type=int, default=(1, 2))
    parser.add_argument("--clients", nargs="+", type=int, default=(1, 4, 16))
    parser.add_argument("--requests", type=int, default=3000, help="the most of each row")
    parser.add_argument("--seconds", type=float, default=20.0, help="the most of each row")
    parser.add_argument("--limits", action="store_true", help="requests beyond the limits")
    options = parser.parse_args()
    if options.limits:
        for model in options.models:
            for row in exceed(model, rounds=40):
                print(f"| {' | '.join(map(str, row))} |", flush=True)
        return
    print(f"{processor()}\n\n| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|", flush=True)
    with hold_machine("benchmark", "times a server on this machine"):
        for model in options.models:
            for threads in options.threads:
                for row in measure(model, threads, options):
                    print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
