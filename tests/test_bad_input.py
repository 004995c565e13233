"""Wrong commands and files as users make them: one line each, no traceback, nothing lost."""

import importlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skip_exp
from skip_exp.__main__ import COMMANDS, main
from skip_exp.utils import console
from tests.conftest import Cli

WRONG = {  # command: what its line has to name
    "+task=sst": "task=sst sst2",
    "+task=": "task= rte",
    "+task=rte backbone=bert": "backbone=bert bert_base",
    "+task=rte backbone=minilm,minlm -m": "backbone=minlm minilm",
    "+task=rte prune=0.5,0.7 -m": "prune=0.5,0.7 float",
    "+task=rte +backbone=minilm": "backbone=NAME",
    "+task=rte +attribution=random": "attribution=NAME",
    "+task=rte +task=sst2": "task +task=A,B",
    "+task=rte backbone=/models/bert": "backbone=/models/bert backbone.path=",
    "+task=rte ratio=0.5": "ratio prune.ratio",
    "+task=rte --ratio=0.5": "--ratio=0.5",
    "+task=rte prune.ratio==0.5": "prune.ratio",
    "+task=rte prune.sites=[ffn": "[ffn",
    "+task=rte tune.epochs=three": "tune.epochs=three",
    "+task=rte seed=1.5": "seed",
    "+task=rte data.dir={a:1}": "data.dir",
    "+task=rte prune.ratio=0.3,-0.1 -m": "prune.ratio",
    "+task=rte prune.within=4 prune.ratio=0.9": "prune.within=4.0 prune.ratio=0.9",
    "+task=rte prune.within=1 prune.ratio=0.9": "prune.within=1.0 prune.ratio=0.9",
    "+task=rte prune.ratio=auto": "prune.ratio auto",
    "+task=rte +tune.rank.x=1": "tune.rank",
    "+task=rte data.source=sample": "data.source=sample embedded",
    "+task=rte data.dir=${oc.env:NO_SUCH}": "data.dir NO_SUCH",
    "+task=rte seed=${nowhere}": "seed nowhere",
    "+task=rte -cn": "--config-name",
    "+task=rte --cfg nope": "--cfg nope",
    "-cn tabel2": "tabel2 table2",
    "--config-dir nowhere +task=rte": "nowhere",
    "trane": "trane",
    "": "+task rte",
    "task=rte": "+task=rte",
    "+task=rte hydra.nonsense=1": "hydra.nonsense",
    "+task=rte +prune.ratoi=0.3": "prune.ratoi prune.ratio",
    "+task=rte prune.ratio=0.3,0.5": "prune.ratio=0.3,0.5 --multirun",
    "+task=rte prune.sites=ffn": "prune.sites=ffn",
    "+task=rte ~prune.ratio": "prune.ratio",
    "+task=rte ~backbone": "backbone.name",
    "task.name=mine": "task.text",
    "+task=rte output_dir=x": "output_dir=x hydra.run.dir",
    "+task=rte hydra.job.chdir=true": "hydra.job.chdir=True",
    "+task=rte hydra/launcher=submitit_slurm": "hydra/launcher=submitit_slurm -m",
    "+task=rte hydra/sweeper=ax -m": "hydra/sweeper=ax basic skip_exp[search]",
}
FILES = {  # task files: text, and what the line has to name
    "cut off": ("name: [mine", "mine.yaml line 1"),
    "a tab": ("name: mine\n\tlabel: x", "mine.yaml line 2"),
    "a key twice": ("name: mine\nname: yours", "mine.yaml name"),
    "an unknown key": ("name: mine\nlables: [a, b]", "task/mine task.lables task.labels"),
    "a wrong type": ("name: mine\nlabels: 3", "task/mine task.labels"),
    "no list": ("name: mine\ntext: a", "task/mine task.text"),
    "a list": ("- name: mine", "task/mine"),
    "a text": ("mine", "task/mine"),
    "nothing": ("", "task.name task/mine"),
    "too little": ("name: mine", "task.text"),
    "not UTF-8": ("name: m\udcffine", "utf-8"),
    "a Python object": ("name: !!python/object/apply:os.system ['touch ran']", "mine.yaml"),
    "one label": ("name: mine\ntext: [a]\nlabels: [x]\nmetrics: [accuracy]", "task.labels"),
}
OTHERS = {
    "predict nowhere text": "nowhere",
    "predict": "SKILL",
    "export nowhere out": "nowhere",
    "export nowhere out --format tflite": "--format tflite",
    "report nowhere": "nowhere",
    "table2 --profile=full": "--profile full",
    "table2 --no-run --profile offline tune.epoch=1": "tune.epoch tune.epochs",
    "compare": "--by",
    "compare nowhere --by attribution": "nowhere",
    "dashboard": "--entity",
}

NOWHERE = (  # "nowhere.csv" is no file and no column
    "train nowhere.csv",
    "train good.csv --validation nowhere.csv",
    "compress model nowhere.csv",
    "evaluate SKILL nowhere.csv",
    "evaluate nowhere.csv own/x.yaml",
    "predict SKILL --file nowhere.csv",
    "predict nowhere.csv text",
    "train good.csv --text nowhere.csv",
    "train good.csv --label label,nowhere.csv",
    "train good.csv --validation good.csv task.group=nowhere.csv",
    "compress model good.csv --label nowhere.csv",
    "evaluate SKILL good.csv --label nowhere.csv",
    "predict SKILL --file good.csv --with nowhere.csv",
)


@pytest.fixture(autouse=True)
def outputs(tmp_path: Path) -> Iterator[None]:
    """Whatever lay there before is there afterwards, byte for byte."""
    for name in ("precious/result.json", "outputs/2026-01-01/12-00/result.json", "own/x.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    yield
    for name in ("precious/result.json", "outputs/2026-01-01/12-00/result.json", "own/x.yaml"):
        assert (tmp_path / name).read_text() == "{}"


def check_line(told: str, words: str) -> None:
    """``told`` is one line that names all the words."""
    assert re.fullmatch(r"error: [^\n]+\n", told)
    assert not [word for word in words.split() if word not in told], told


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_command_is_one_line(cli: Cli, command: str) -> None:
    ended = cli(*command.split())
    assert (ended.code, ended.jobs, ended.out) == (2, [], "")
    check_line(ended.err, WRONG[command])


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_file_is_one_line(cli: Cli, tmp_path: Path, name: str) -> None:
    text, told = FILES[name]
    (tmp_path / "own/task").mkdir()
    (tmp_path / "own/task/mine.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    ended = cli("--config-dir", "own", "+task=mine")
    assert (ended.code, ended.jobs) == (2, [])
    check_line(ended.err, told)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", OTHERS)
def test_a_wrong_argument_of_another_command_is_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["skip-exp", *command.split()])
    try:
        code = main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    told = capsys.readouterr().err
    assert code != 0
    assert all(word in told.splitlines()[-1] for word in OTHERS[command].split())
    assert len(re.findall("error: ", told)) == 1 and "Traceback" not in told


@pytest.mark.parametrize(
    ("command", "told"),
    [
        *((command, "nowhere.csv") for command in NOWHERE),
        ("train good.csv tune.epohs=3", "tune.epohs"),
        ("train good.csv task.kind=other", "task.kind=other many_labels"),
        ("compress model good.csv tune.epohs=3", "tune.epohs"),
        ("train good.csv --within 1 --ratio 0.5", "prune.within=1.0 prune.ratio"),
        ("train good.csv --ratio 0.5 prune.within=1", "prune.within=1.0 prune.ratio"),
    ],
)
def test_a_mistyped_file_or_column_is_refused_before_torch_is_loaded(
    command: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    lines = [f"a {i},b {i},c {i},{i % 2}\n" for i in range(40)]
    (tmp_path / "good.csv").write_text("".join(["text,premise,hypothesis,label\n", *lines]))
    skill = Path(skip_exp.__file__).parent / "weights/skills/nli-minilm"
    word, *arguments = command.replace("SKILL", str(skill)).split()
    place, _, function = COMMANDS[word].partition(".")
    command_of = getattr(importlib.import_module(f"skip_exp.commands.{place}"), function)
    loaded: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "import_slow", loaded.append)
    try:
        code = command_of(arguments)
    except SystemExit as stop:
        code = stop.code
    assert (code, loaded) == (2, [])
    check_line(capsys.readouterr().err, told)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("+task=rte prune.ratio=1.0", "prune.ratio=1.0"),
        ("+task=rte data.source=local data.dir=nowhere logger=none", "data.dir=nowhere"),
    ],
)
def test_as_programs(tmp_path: Path, command: str, told: str) -> None:
    started = time.monotonic()
    run = [sys.executable, "-m", "skip_exp", *command.split()]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode in (1, 2)
    check_line(done.stderr, told)
    if done.returncode == 2:  # at composition, before torch; a loaded machine has its allowance
        assert time.monotonic() - started < 10
