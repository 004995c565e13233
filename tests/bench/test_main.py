"""Comparisons in processes of their own: what fails is told, the others still run."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from skip_exp.bench import __main__ as bench
from skip_exp.bench import forward, models
from skip_exp.bench.tables import Options, Row, from_json, to_json
from skip_exp.errors import SkipError

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
    return Options(True, folder / "out", folder / "work")


def arguments(folder: Path) -> list[str]:
    return ["--out", str(folder / "out"), "--work", str(folder / "work")]


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
        ("import time; time.sleep(60)", "not done after 1 s"),
    ],
)
def test_a_failure_is_told(
    code: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_commands(monkeypatch, {"forward": code})
    report = bench.run("forward", options(tmp_path), timeout=1.0 if "sleep" in code else 60.0)
    assert report.error is not None and report.error.startswith(error)
    assert "forward.log" in report.error
    assert report.rows == ()


@pytest.mark.parametrize("deaf", ["", "import signal; signal.signal(2, signal.SIG_IGN); "])
def test_nothing_that_it_started_goes_on(
    deaf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pid"
    monkeypatch.setattr(bench, "GRACE", 0.2)
    replace_commands(monkeypatch, {"forward": deaf + STARTS_A_JOB.format(file=str(file))})
    assert bench.run("forward", options(tmp_path), timeout=2.0).error is not None
    assert eventually(lambda: is_gone(int(file.read_text())))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_tables_and_no_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    """The whole program, its first comparison done and its second one at work."""
    file = tmp_path / "pid"
    code = f"""
import json, runpy, signal, sys, types
from skip_exp.bench import __main__ as bench
for name in ("forward", "prefix"):  # without the libraries that they need
    sys.modules["skip_exp.bench." + name] = types.SimpleNamespace(TITLE=name, ABOUT="-")
bench.machine = lambda: dict(device="cpu", threads=1, processor="-", cores=1, versions=dict())
write_rows = "import sys; open(sys.argv[1], 'w').write('[]')"
codes = dict(forward=write_rows, prefix={STARTS_A_JOB.format(file=str(file))!r})
bench.command = lambda name, options, rows: [sys.executable, "-c", codes[name], str(rows)]
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(bench.main(["--only", "forward", "prefix", *{arguments(tmp_path)!r}]))
"""
    run = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    job = int(eventually(lambda: file.is_file() and file.read_text()))
    run.send_signal(number)
    _, errors = run.communicate(timeout=20)
    assert run.returncode == 130
    assert f"interrupted; measured so far: {tmp_path / 'out'}/bench.md" in errors
    assert eventually(lambda: is_gone(job))
    comparisons = json.loads((tmp_path / "out" / "bench.json").read_text())["comparisons"]
    assert [report["name"] for report in comparisons] == ["forward"]


def test_the_others_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_commands(monkeypatch, {"prefix": "import sys; sys.exit('error: broken')"})
    assert bench.main(["--only", "handling", "prefix", "forward", *arguments(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "error: prefix: broken (exit code 1" in captured.err
    assert captured.out.count("| final | batch 8 | 1.00 ms | 2.00 ms | 2.00  |") == 2
    comparisons = json.loads((tmp_path / "out" / "bench.json").read_text())["comparisons"]
    assert [(report["name"], len(report["rows"])) for report in comparisons] == [
        ("forward", 1),
        ("prefix", 0),
        ("handling", 1),
    ]
    assert "**failed**: broken" in (tmp_path / "out" / "bench.md").read_text()
    replace_commands(monkeypatch, {})
    assert bench.main(["--only", "forward", *arguments(tmp_path)]) == 0


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--only", "none"])
    assert "argument --only: invalid choice: 'none'" in capsys.readouterr().err
    (tmp_path / "out").write_text("a file")
    assert bench.main(["--only", "forward", *arguments(tmp_path)]) == 2
    assert f"error: {tmp_path / 'out'}: File exists" in capsys.readouterr().err


def test_every_comparison_says_what_it_compares() -> None:
    for name in bench.COMPARISONS:
        module = importlib.import_module(f"skip_exp.bench.{name}")
        assert module.TITLE and module.ABOUT and callable(module.measure)


def test_a_library_that_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SkipError, match=r"^peft is not installed; .* the dev extra: pip install"):
        models.extra("peft")


def test_the_process_of_a_comparison_writes_rows_or_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, ladder = tmp_path / "rows.json", ((Path("a"),), ("cr", "sst2"), Path("conf"))
    asked = Options(True, tmp_path, tmp_path, *ladder)
    given = bench.command("forward", asked, file)[3:]
    seen: list[Options] = []
    monkeypatch.setattr(forward, "measure", lambda options: seen.append(options) or [ROW])
    assert bench.main(given) == 0
    assert from_json(json.loads(file.read_text())) == (ROW,)
    assert seen == [asked]

    def refuse(options: Options) -> list[Row]:
        raise SkipError("captum is not installed")

    monkeypatch.setattr(forward, "measure", refuse)
    assert bench.main(given) == 2
    assert capsys.readouterr().err == "error: captum is not installed\n"


def test_the_processes_of_the_comparisons_have_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that OpenMP binds would leave one core to what is started afterwards."""
    code = "; ".join(
        [
            "import os, subprocess, sys",
            "count = 'import os; print(len(os.sched_getaffinity(0)))'",
            "from skip_exp.bench.__main__ import unbind; unbind()",
            "import torch; torch.ones(512, 512) @ torch.ones(512, 512)",
            "subprocess.run([sys.executable, '-c', count])",
        ]
    )
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system does not bind")
    for name in bench.BINDING:
        monkeypatch.setenv(name, "true" if name == "OMP_PROC_BIND" else "cores")
    monkeypatch.delenv("GOMP_CPU_AFFINITY")
    monkeypatch.delenv("KMP_AFFINITY")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) == len(os.sched_getaffinity(0))
