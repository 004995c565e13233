"""The wheel, and the targets of the Makefile."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import skip_exp
from skip_exp import __version__
from skip_exp.config.schema import conf_dir

ROOT = conf_dir().parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    builders = pytest.importorskip("hatchling.builders.wheel")
    builder = builders.WheelBuilder(str(ROOT))
    folder = tmp_path_factory.mktemp("wheel")
    return Path(next(iter(builder.build(directory=str(folder), versions=["standard"]))))


def test_the_wheel_holds_every_config(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name == f"skip_exp-{__version__}-py3-none-any.whl"
    wanted = {
        f"skip_exp/{path.relative_to(ROOT)}"
        for folder in ("conf", "sweeps")
        for path in (ROOT / folder).rglob("*.yaml")
    }
    assert "skip_exp/conf/config.yaml" in wanted
    assert wanted <= names
    assert {"skip_exp/__main__.py", "skip_exp/py.typed"} <= names
    assert not [name for name in names if name.startswith(("conf/", "tests/", "src/"))]


def test_what_the_package_offers_is_seen() -> None:
    assert {"OnnxSkill", "Skill", "__version__"} <= set(dir(skip_exp))


def test_the_wheel_runs_away_from_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import skip_exp, sys; from skip_exp.__main__ import main; print(skip_exp.__file__); "
    code += "sys.argv = ['skip_exp', '+task=rte', '--cfg', 'job']; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site/skip_exp"))
    assert "path: embedded:minilm" in done.stdout


def test_help_lists_every_target() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):(?!=)", (ROOT / "Makefile").read_text(), re.M))
    assert {"install", "run", "test", "lint", "format", "clean", "build"} <= targets
    for command in (["make"], ["make", "help"]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert set(re.findall(r"^  ([a-z][a-z0-9-]*) ", done.stdout, re.M)) == targets


def test_a_machine_without_a_fitting_python_is_told_so(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "install", "PYTHON=no-such-python", f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "error: no Python 3.11 to 3.13 with venv among: no-such-python" in done.stderr


def test_constraints_name_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", pin) for pin in pins), pins
    assert not [pin for pin in pins if pin.startswith(("nvidia", "triton"))]
