"""Comparisons in processes of their own: what fails is told, the others still run."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import __main__ as bench
from benchmarks.tables import Options, Row, to_json

ROW = Row("final", "batch 8", 1.0, 2.0, "ms", 2.0)
# A comparison that starts a job, writes its process id and waits for it.
STARTS_A_JOB = (
    "import subprocess, sys; "
    "job = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "open({file!r}, 'w').write(str(job.pid)); job.wait()"
)


def replace_commands(monkeypatch: pytest.MonkeyPatch, codes: dict[str, str]) -> None:
    """Comparisons run the Python code given, or else write ROW."""

    def command(name: str, options: Options, rows: Path) -> list[str]:
        good = f"open({str(rows)!r}, 'w').write({json.dumps(to_json([ROW]))!r})"
        return [sys.executable, "-c", codes.get(name, good)]

    monkeypatch.setattr(bench, "command", command)


def options(folder: Path) -> Options:
    return Options(True, folder / "out")


def arguments(folder: Path) -> list[str]:
    return ["--out", str(folder / "out")]


def eventually(check: Callable[[], Any]) -> Any:
    """What ``check`` gives once it is true; fails after ten seconds."""
    for _ in range(200):
        if value := check():
            return value
        time.sleep(0.05)
    raise AssertionError(check)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import sys; print('much'); sys.exit('error: peft is not installed')", "peft is not in"),
        ("raise ValueError('no such thing')", "ValueError: no such thing (exit code 1"),
        ("import os; os.kill(os.getpid(), 9)", "no output (exit code -9"),
    ],
)
def test_a_failure_is_told(
    code: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_commands(monkeypatch, {"forward": code})
    report = bench.run("forward", options(tmp_path), timeout=60.0)
    assert report.error is not None and report.error.startswith(error)
    assert "forward.log" in report.error
    assert report.rows == ()


def test_nothing_that_it_started_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where it is deaf to the interruption."""
    file, deaf = tmp_path / "pid", "import signal; signal.signal(2, signal.SIG_IGN); "
    monkeypatch.setattr(bench, "GRACE", 0.2)
    replace_commands(monkeypatch, {"forward": deaf + STARTS_A_JOB.format(file=str(file))})
    assert bench.run("forward", options(tmp_path), timeout=1.5).error is not None
    assert eventually(lambda: is_gone(int(file.read_text())))


def test_the_others_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_commands(monkeypatch, {"training": "import sys; sys.exit('error: broken')"})
    assert bench.main(["--only", "attribution", "training", "forward", *arguments(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "error: training: broken (exit code 1" in captured.err
    assert captured.out.count("| final | batch 8 | 1.00 ms | 2.00 ms | 2.00  |") == 2
    comparisons = json.loads((tmp_path / "out" / "bench.json").read_text())["comparisons"]
    assert [(report["name"], len(report["rows"])) for report in comparisons] == [
        ("forward", 1),
        ("training", 0),
        ("attribution", 1),
    ]
    assert "**failed**: broken" in (tmp_path / "out" / "bench.md").read_text()
    replace_commands(monkeypatch, {})
    assert bench.main(["--only", "forward", *arguments(tmp_path)]) == 0


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--only", "none"])
    (tmp_path / "out").write_text("a file")
    assert bench.main(["--only", "forward", *arguments(tmp_path)]) == 2
