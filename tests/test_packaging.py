"""The wheel, and the targets of the Makefile."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    assert "skip_exp/__main__.py" in names
    assert not [name for name in names if name.startswith(("conf/", "tests/", "src/"))]


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


def test_the_tested_versions_are_allowed_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    tested = {canonicalize_name(name): version for name, version in pins.items()}
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(text for name in extras for text in extras[name])]
    for requirement in map(Requirement, asked):
        if requirement.name == "hydra-ray-launcher":  # its cloudpickle is not among them
            continue
        assert tested[canonicalize_name(requirement.name)] in requirement.specifier, requirement


@pytest.mark.parametrize(
    ("name", "hole"),
    [
        ("hydra-core", "1.3.6"),  # CVE-2026-106439: a YAML could call anything
        ("transformers", "5.4"),  # CVE-2026-5241: remote code, though not asked for
        ("lightning", "2.6.2"),  # compromised releases
        ("lightning", "2.6.3"),
    ],
)
def test_a_version_with_a_known_hole_is_not_allowed(name: str, hole: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (asked,) = [each for each in map(Requirement, project["dependencies"]) if each.name == name]
    assert hole not in asked.specifier


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["preferred-citation"]["url"] == "https://arxiv.org/abs/2404.11916"


def test_no_address_is_named_that_does_not_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "urls" not in project  # there is no public home yet
    trove = pytest.importorskip("trove_classifiers")
    assert set(project["classifiers"]) <= trove.classifiers
