"""Every command of the pages: run on a tiny job, composed, or marked with what it needs; links."""

import importlib.util
import re
import runpy
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from skip_exp import pipeline
from skip_exp.__main__ import COMMANDS as COMMAND_WORDS
from skip_exp.config import schema
from tests.helpers.toy import save_toy, toy_job
from tests.helpers.written import ROOT, Command, block, commands

COMMANDS = commands()
ONCE = list({(each.text, each.needs): each for each in reversed(COMMANDS)}.values())[::-1]
JOBS = [each for each in ONCE if each.program == "job"]
TARGETS = [each for each in ONCE if each.program == "make"]
OTHERS = [each for each in ONCE if each.program not in ("job", "make")]
RUN = [each for each in OTHERS if each.needs is None]
MARKED = [each for each in OTHERS if each.needs and not each.program.endswith(".py")]
RUNNABLE = {  # what is run here unless it is marked
    *("predict", "evaluate", "export", "report", "compare"),
    *("examples/two_skills.py", "examples/onnxruntime_only.py"),
}
PYTHONPATH = re.compile(r"^export PYTHONPATH=(\S+)$", re.MULTILINE)  # of all commands of a page
PLACES = {  # what stands for a finished job's files, and the tiny job's own
    "outputs/.../skill": "outputs/job/skill",
    "outputs/.../result.json": "outputs/job/result.json",
    "outputs/...": "outputs/job",
    "outputs/A/skill": "outputs/job/skill",
    "outputs/B/skill": "outputs/job/skill",
}


def name(command: Command) -> str:
    return f"{command.page}: {command.text}"


def test_there_are_commands_of_every_kind() -> None:
    assert len(JOBS) > 20 and len(RUN) > 10 and len(TARGETS) > 4
    pages = {"README.md", "docs/rows.md", "docs/sweeps.md", "docs/serving.md", "docs/extending.md"}
    assert {each.page for each in COMMANDS} >= pages


def test_what_is_not_marked_can_be_run() -> None:
    assert {each.program for each in RUN} <= RUNNABLE


# --- jobs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", JOBS, ids=name)
def test_a_job_composes(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in PYTHONPATH.findall((ROOT / command.page).read_text(encoding="utf-8")):
        monkeypatch.syspath_prepend(ROOT / folder)
    given = get_args_parser().parse_intermixed_args(command.arguments)
    overrides, swept = fixed_and_swept(given.overrides)
    if command.arguments == ["--help"]:
        return
    assert given.multirun or given.config_name or not swept, "several values need -m"
    if given.config_name:
        cfg = composed(given, overrides, tmp_path, hydra=True)
        params = cfg.hydra.sweeper.params or {}
        inside, more = fixed_and_swept([f"{key}={value}" for key, value in params.items()])
        overrides, swept = [*overrides, *inside], swept | more
    # Every value of the package's own sweeps is composed by the tests of the schema.
    is_composed = given.config_name and not given.config_dir
    for i in range(1 if is_composed else max(map(len, swept.values()), default=1)):
        picked = [f"{key}={values[min(i, len(values) - 1)]}" for key, values in swept.items()]
        cfg = composed(given, [*overrides, *picked], tmp_path)
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        assert plain["task"]["name"] and plain["backbone"]["name"]  # type: ignore[index, call-overload]
        parts = (cfg.attribution._target_, cfg.prompt.kind, cfg.backbone.readout)
        for part in (*parts, cfg.prune.allocation):
            module, _, attribute = part.rpartition(".")
            assert not module or hasattr(importlib.import_module(module), attribute)


def fixed_and_swept(overrides: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Overrides with one value, and {key: values} of those with several."""
    parser, fixed, swept = OverridesParser.create(), [], {}
    for text in overrides:
        override = parser.parse_override(text)
        if override.is_sweep_override():
            swept[text.split("=")[0]] = list(map(str, override.sweep_string_iterator()))
        else:
            fixed.append(text)
    return fixed, swept


def composed(given: Any, overrides: list[str], tmp_path: Path, hydra: bool = False) -> Any:
    """The configuration of one job, as the command line would have it."""
    own: list[str] = [f"output_dir={tmp_path}"]
    if any(override.startswith("hparams_search=") for override in overrides):
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    schema.register()
    conf = folder = schema.conf_dir()
    if given.config_dir:
        extra = ROOT / given.config_dir
        if given.config_dir == "my_conf":
            extra = tmp_path / "my_conf"
            (extra / "task").mkdir(parents=True, exist_ok=True)
            text = block(ROOT / "docs" / "sweeps.md", "name: reviews")
            (extra / "task" / "reviews.yaml").write_text(text)
            text = block(ROOT / "docs" / "sweeps.md", "defaults: [config, _self_]")
            (extra / "mine.yaml").write_text(text)
        folder, search = (extra, conf) if given.config_name else (conf, extra)
        own.append(f"hydra.searchpath=[file://{search}]")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose(given.config_name or "config", [*own, *overrides], return_hydra_config=hydra)


# --- make -------------------------------------------------------------------------------------


def test_targets_are_in_the_makefile() -> None:
    targets = re.findall(r"^([a-z][a-z0-9-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    asked = {word for each in TARGETS for word in each.arguments if "=" not in word}
    assert asked and asked <= set(targets)


# --- all other commands -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``outputs`` of one finished job, its cache and its skill, and with texts."""
    folder = tmp_path_factory.mktemp("docs")
    toy = save_toy(folder / "toy")
    own = [f"cache.dir={folder}/outputs/.cache", "benchmark.enabled=true"]
    for name, more in (("job", []), ("control", ["attribution=random"])):
        cfg = toy_job(toy, folder / "outputs", name, *own, *more)
        assert pipeline.run(cfg)["status"] == "done"
    (folder / "texts.txt").write_text("the film was good\nthe plot was dull\n")
    (folder / "rows.csv").write_text("text,label\nthe film was good,1\nthe plot was dull,0\n")
    return folder


def needs_onnx(command: Command) -> bool:
    return any("onnx" in word or "int8" in word for word in (command.program, *command.arguments))


SLOW = [pytest.param(each, marks=pytest.mark.slow) for each in RUN if needs_onnx(each)]


@pytest.mark.parametrize("command", [*SLOW, *(e for e in RUN if not needs_onnx(e))], ids=name)
def test_a_command_runs(
    command: Command,
    request: pytest.FixtureRequest,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if needs_onnx(command):
        request.getfixturevalue("onnx_packages")
    monkeypatch.chdir(place)
    if command.program == "export":
        shutil.rmtree(command.arguments[1], ignore_errors=True)
    for maker in makers(command):
        assert start(maker) == 0
    capsys.readouterr()
    code = start(command)
    told = capsys.readouterr()
    assert code == 0 and told.out, told.err


def makers(command: Command) -> list[Command]:
    """The exports that write what ``command`` reads and what is not there yet."""
    if command.program == "export":
        return []
    exports = [each for each in RUN if each.program == "export"]
    read = [each for each in exports if each.arguments[1] in command.arguments]
    return [each for each in read if not Path(each.arguments[1]).exists()]


def start(command: Command) -> int:
    """Run the command in this process; its exit code."""
    arguments = [PLACES.get(word, word) for word in command.arguments]
    if command.program.endswith(".py"):
        return int(example(command.program).main(arguments) or 0)
    return run_module(command.program, arguments)


def run_module(program: str, arguments: Sequence[str]) -> int:
    """``python -m program arguments``, or that of a command, in this process; its exit code."""
    if program in COMMAND_WORDS:
        program, arguments = "skip_exp", [program, *arguments]
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(SystemExit) as stop,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", RuntimeWarning)  # of runpy: some were imported before
        patch.setattr(sys, "argv", [program, *arguments])
        runpy.run_module(program, run_name="__main__")
    return int(stop.value.code or 0)


def example(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("command", MARKED, ids=name)
def test_what_is_marked_has_the_flags_that_it_is_given(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_module(command.program, ["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in command.arguments if word.startswith("--"))


ALL = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("src/**/*.md"),
        *ROOT.glob("studies/*.md"),
    ]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_what_a_page_links_to_exists() -> None:
    for page in ALL:
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            path, _, part = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page}: {link}"
            assert not part or there.suffix != ".md" or part in anchors(there), f"{page}: {link}"


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_every_csv_file_is_linked() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in ROOT.glob("studies/*.md"))
    for file in (ROOT / "studies/results").rglob("*.csv"):
        assert f"]({file.relative_to(ROOT / 'studies').as_posix()})" in pages


def test_every_speed_up_has_a_file_with_its_rows_or_the_commit_that_has_it() -> None:
    for source in pd.read_csv(ROOT / "studies/speedups.csv")["source"]:
        name, _, commit = source.partition(" at commit ")
        assert commit or (ROOT / "studies" / name).is_file()
