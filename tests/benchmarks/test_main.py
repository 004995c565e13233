"""Comparisons in processes of their own: what fails is told, the others still run."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks.tables import Options, Row, to_json

ROW = Row("final", "batch 8", 1.0, 2.0, "ms", 2.0)


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
