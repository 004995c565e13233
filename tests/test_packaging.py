"""The wheel, and the targets of the Makefile."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
import zlib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from skip_exp import __version__
from skip_exp.backbones.embedded import SHIPPED
from skip_exp.config.schema import conf_dir
from skip_exp.data.sources import load_rows
from tests.helpers.toy import composed

ROOT = conf_dir().parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    builders = pytest.importorskip("hatchling.builders.wheel")
    builder = builders.WheelBuilder(str(ROOT))
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(zlib, "Z_DEFAULT_COMPRESSION", 0)  # of weights it takes seconds
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
    assert not [name for name in names if name.startswith("skip_exp/conf/local")]
    files = ("model.safetensors", "config.json", "tokenizer.json", "README.md")
    assert {f"skip_exp/weights/{name}/{file}" for name in SHIPPED for file in files} <= names
    data = {name.rpartition("embedded/")[2] for name in names if "data/embedded/" in name}
    sets = {
        f"{a}/{b}.parquet" for a in ("banking77", "snli_pairs") for b in ("train", "validation")
    }
    assert data == {"LICENSE", "README.md", *sets}
    assert not [name for name in names if name.startswith(("conf/", "tests/", "src/"))]


LIGHT = """
import sys
import skip_exp
from skip_exp.__main__ import COMMANDS, main
sys.argv = ["skip_exp", "--help"]
try:
    main()
except SystemExit:
    pass
print(skip_exp.__file__)
print(sorted({"torch", "transformers", "wandb", "datasets"} & sys.modules.keys()))
for place in COMMANDS.values():
    __import__("skip_exp.commands." + place.partition(".")[0])
print(sorted({"torch", "transformers", "lightning", "matplotlib"} & sys.modules.keys()))
"""


def test_the_wheel_runs_away_from_the_source_tree_and_its_help_needs_no_torch(
    wheel: Path, tmp_path: Path
) -> None:
    archive = zipfile.ZipFile(wheel)
    light = [name for name in archive.namelist() if not name.endswith(".safetensors")]
    archive.extractall(tmp_path / "site", light)
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LIGHT],
        cwd=tmp_path / "here",
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "bert_base" in done.stdout  # a choice of its configuration
    place, *loaded = done.stdout.splitlines()[-3:]
    assert place.startswith(str(tmp_path / "site/skip_exp")) and loaded == ["[]", "[]"]
    assert not [*(tmp_path / "here").iterdir()]


# --- installed ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of an environment with the wheel that the source archive builds.

    The package and its commands are installed as pip installs them; what it depends on is read from
    this environment, because downloading it would take gigabytes.
    """
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "venv", symlinks=True)
    here = sysconfig.get_paths()["purelib"]
    paths = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    there = Path(sysconfig.get_path("purelib", vars=paths))
    (there / "libraries.pth").write_text(here)
    wheels = list(map(str, folder.glob("*.whl")))
    pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, *wheels], check=True)
    return folder / "venv/bin"


def away(installed: Path, folder: Path, *command: str) -> str:
    """What a command prints to a user who has that environment only, and no checkout."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env = kept | {"PATH": f"{installed}:{os.environ['PATH']}", "WANDB_MODE": "offline"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_source_archive_builds_the_same_wheel(installed: Path, wheel: Path) -> None:
    (other,) = installed.parents[1].glob("*.whl")
    assert set(zipfile.ZipFile(other).namelist()) == set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_an_installed_package_runs_the_main_job_from_any_folder(
    installed: Path, tmp_path: Path
) -> None:
    job = "+task=rte backbone=t5_mini experiment=smoke tune.epochs=1 data.source=embedded"
    job += " data.train_rows=200"
    away(installed, tmp_path, "skip-exp", *job.split(), "benchmark.enabled=false")
    (result,) = tmp_path.glob("outputs/**/result.json")
    assert json.loads(result.read_text())["status"] == "done"
    (skill,) = tmp_path.glob("outputs/**/skill")
    told = away(installed, tmp_path, "skip-exp", "predict", str(skill), "a", "b")
    assert "entailment" in told


def test_the_image_is_built_from_what_the_package_is_built_from() -> None:
    """The Dockerfile copies what the wheel is built from; none of that is ignored."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copies = re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = " ".join(copies).split()
    assert {"src", "conf", "sweeps", "pyproject.toml", "README.md"} <= set(names)
    assert not [name for name in names if f"!{name}" not in ignored]


# --- the Makefile -------------------------------------------------------------------------------


def test_the_first_run_prunes_real_rows() -> None:
    (given,) = re.findall(r"^ARGS \?= (.+) -m$", (ROOT / "Makefile").read_text(), re.M)
    cfg = composed(*(each for each in given.split() if "," not in each), "output_dir=here")
    raw = load_rows(cfg.task, cfg.data)
    assert raw.source.startswith("embedded:") and not raw.is_sample


def test_ci_runs_targets_that_exist_and_a_job_that_needs_no_hub() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = [each.split()[1] for each in steps if each.startswith("make ")]
    makefile = (ROOT / "Makefile").read_text()
    assert targets and all(f"\n{target}:" in makefile for target in targets)
    assert ".ci/run" in steps and (ROOT / ".ci/run").is_file()
    (command,) = [each for each in steps if each.startswith("skip-exp ")]
    cfg = composed(*command.split()[1:], "output_dir=here")
    assert cfg.backbone.path.startswith("embedded:") and cfg.data.source == "embedded"


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
ASKED = [Requirement(text) for text in (*PROJECT["dependencies"], *EXTRAS)]


def test_constraints_are_versions_that_are_allowed() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert not [name for name in pins if name.startswith(("nvidia", "triton"))]
    tested = {canonicalize_name(name): version for name, version in pins.items()}
    apart = {
        canonicalize_name(Requirement(text).name)
        for text in PROJECT["optional-dependencies"]["ray"]
    }
    for requirement in ASKED:
        if canonicalize_name(requirement.name) in apart - tested.keys():
            continue  # not installed by `make install`
        assert tested[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_what_is_imported_is_named() -> None:
    """Not left to what happens to bring it along; joblib is the joblib launcher's own."""
    named = {canonicalize_name(each.name) for each in ASKED} | {"joblib"}
    texts = [path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py")]
    imported = re.findall(r"^ *(?:import|from) (\w+)", "\n".join(texts), re.MULTILINE)
    ours = set(imported) - sys.stdlib_module_names - {"skip_exp"}
    brings = packages_distributions()
    assert {"yaml", "huggingface_hub", "tokenizers", "pyarrow"} <= ours
    for module in ours & brings.keys():  # an extra may be absent
        assert named & {canonicalize_name(name) for name in brings[module]}, module


@pytest.mark.parametrize(
    ("name", "hole"),
    [
        ("hydra-core", "1.3.6"),  # CVE-2026-106439: a YAML could call anything
        ("transformers", "5.4"),  # CVE-2026-5241: remote code, though not asked for
        *(("lightning", "2.6.2"), ("lightning", "2.6.3")),  # compromised releases
    ],
)
def test_a_version_with_a_known_hole_is_not_allowed(name: str, hole: str) -> None:
    (asked,) = [each for each in ASKED if each.name == name]
    assert hole not in asked.specifier
