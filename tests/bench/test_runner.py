"""Comparisons in processes of their own: what fails is told, the others still run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from skip_exp.bench import libraries, runner, worker
from skip_exp.bench.__main__ import main
from skip_exp.bench.row import Options, Row, to_plain
from skip_exp.errors import SkipError

ROW = Row("final", "batch 8", 1.0, 2.0, "ms", 2.0)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def fake(fails: dict[str, str]) -> Any:
    """Stands in for ``runner.command``: a process that writes ROW, or runs the code given."""

    def command(name: str, options: Options, file: Path) -> list[str]:
        good = f"open({str(file)!r}, 'w').write({json.dumps([to_plain(ROW)])!r})"
        return python(fails.get(name, good))

    return command


def options(folder: Path) -> Options:
    return Options(True, folder / "out", folder / "work")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import sys; print('much'); sys.exit('error: peft is not installed')", "peft is not in"),
        ("raise ValueError('no such thing')", "ValueError: no such thing (exit code 1"),
        ("import os; os.kill(os.getpid(), 9)", "no output (exit code -9"),
        ("import time; time.sleep(60)", "not done after 2 s"),
    ],
)
def test_a_failure_is_told(
    code: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "command", fake({"forward": code}))
    report = runner.run("forward", options(tmp_path), timeout=2.0 if "sleep" in code else 60.0)
    assert report.error is not None and report.error.startswith(error)
    assert "forward.log" in report.error
    assert report.rows == ()


def test_nothing_that_it_started_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pid"
    code = (
        "import subprocess, sys; "
        "job = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        f"open({str(file)!r}, 'w').write(str(job.pid)); job.wait()"
    )
    monkeypatch.setattr(runner, "command", fake({"forward": code}))
    assert runner.run("forward", options(tmp_path), timeout=5.0).error is not None
    job = int(file.read_text())
    gone = psutil.wait_procs([psutil.Process(job)] if psutil.pid_exists(job) else [], timeout=10)
    assert not [each for each in gone[1] if each.status() != psutil.STATUS_ZOMBIE]


def test_the_others_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        runner, "command", fake({"prefix": "import sys; sys.exit('error: broken')"})
    )
    given = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert main(["--only", "handling", "prefix", "forward", *given]) == 1
    captured = capsys.readouterr()
    assert "error: prefix: broken (exit code 1" in captured.err
    found = json.loads((tmp_path / "out" / "bench.json").read_text())["comparisons"]
    assert [(each["name"], len(each["rows"])) for each in found] == [
        ("forward", 1),
        ("prefix", 0),
        ("handling", 1),
    ]
    assert "**failed**: broken" in (tmp_path / "out" / "bench.md").read_text()
    monkeypatch.setattr(runner, "command", fake({}))
    assert main(["--only", "forward", *given]) == 0


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "speed"]) == 2
    assert capsys.readouterr().err.startswith("error: --only speed: must be one of forward, prefix")


def test_every_comparison_says_what_it_compares() -> None:
    import importlib

    for name in runner.COMPARISONS:
        module = importlib.import_module(f"skip_exp.bench.{name}")
        assert module.TITLE and module.ABOUT and callable(module.measure)


def test_a_library_that_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SkipError, match=r"^peft is not installed; .* the dev extra: pip install"):
        libraries.extra("peft")


def test_the_worker_writes_rows_or_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from skip_exp.bench import forward

    file = tmp_path / "rows.json"
    given = ["forward", "--to", str(file), "--out", str(tmp_path), "--work", str(tmp_path)]
    seen: list[Options] = []
    monkeypatch.setattr(forward, "measure", lambda asked: seen.append(asked) or [ROW])
    assert worker.main([*given, "--quick", "--skill", "a"]) == 0
    assert runner.read(file) == (ROW,)
    assert seen == [Options(True, tmp_path, tmp_path, (Path("a"),))]

    def refuse(asked: Options) -> list[Row]:
        raise SkipError("captum is not installed")

    monkeypatch.setattr(forward, "measure", refuse)
    assert worker.main(given) == 2
    assert capsys.readouterr().err == "error: captum is not installed\n"


def test_the_processes_of_the_comparisons_have_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that OpenMP binds would leave one core to what is started afterwards."""
    code = "; ".join(
        [
            "import os, subprocess, sys",
            "count = 'import os; print(len(os.sched_getaffinity(0)))'",
            "from skip_exp.bench import runner; runner.unbind()",
            "import torch; torch.ones(512, 512) @ torch.ones(512, 512)",
            "subprocess.run([sys.executable, '-c', count])",
        ]
    )
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system does not bind")
    for name in runner.BINDING:
        monkeypatch.setenv(name, "true" if name == "OMP_PROC_BIND" else "cores")
    monkeypatch.delenv("GOMP_CPU_AFFINITY")
    monkeypatch.delenv("KMP_AFFINITY")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(told.stdout) == len(os.sched_getaffinity(0))
