"""Wrong commands and files as users make them: one line each, no traceback, nothing lost."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skip_exp.__main__ import main
from tests.conftest import Cli

WRONG = {  # command: what its line has to name
    "+task=sst": "task=sst sst2",
    "+task=RTE": "task=RTE rte",
    "+task=": "task= rte",
    "+task=3": "+task=3 int",
    "+task=rte backbone=bert": "backbone=bert bert_base",
    "+task=rte backbone=minilm,minlm -m": "backbone=minlm minilm",
    "+task=rte attribution=taylr": "attribution=taylr taylor",
    "+task=rte prompt=prefx": "prompt=prefx",
    "+task=rte prune=0.5,0.7 -m": "prune=0.5,0.7 float",
    "+task=rte trainer=tpu": "trainer=tpu",
    "+task=rte experiment=papr": "experiment=papr paper",
    "+task=rte +backbone=minilm": "backbone",
    "+task=rte ratio=0.5": "ratio prune.ratio",
    "+task=rte prune.ration=0.5": "prune.ration prune.ratio",
    "+task=rte --ratio=0.5": "--ratio=0.5",
    "+task=rte ratio 0.5": "ratio",
    "+task=rte prune.ratio:0.5": "prune.ratio",
    "+task=rte prune.ratio==0.5": "prune.ratio",
    "+task=rte prune.sites=[ffn": "[ffn",
    "+task=rte tune.epochs=three": "tune.epochs=three",
    "+task=rte tune.epochs=null": "tune.epochs=null",
    "+task=rte seed=1.5": "seed",
    "+task=rte prune.ratio=[0.3,0.5]": "prune.ratio",
    "+task=rte prune.ratio=true": "prune.ratio",
    "+task=rte task.labels=yes": "task.labels",
    "+task=rte data.dir={a:1}": "data.dir",
    "+task=rte prune.ratio=1": "prune.ratio",
    "+task=rte prune.ratio=0.3,-0.1 -m": "prune.ratio",
    "+task=rte prune.ratio=nan": "prune.ratio=nan",
    "+task=rte prune.sites=[mlp]": "prune.sites",
    "+task=rte prune.allocation=best": "prune.allocation=best",
    "+task=rte prune.steps=0": "prune.steps",
    "+task=rte prune.round_to=0": "prune.round_to=0",
    "+task=rte logger.name=tb": "logger.name=tb wandb",
    "+task=rte +tune.rank.x=1": "tune.rank",
    "+task=rte prune.target_speedup=0.5": "prune.target_speedup",
    "+task=rte tune.epochs=0": "tune.epochs",
    "+task=rte tune.batch=-8": "tune.batch",
    "+task=rte tune.lr=.inf": "tune.lr=.inf",
    "+task=rte tune.warmup=6": "tune.warmup",
    "+task=rte retune.distill=2": "retune.distill",
    "+task=rte retune.distill_hidden=-1": "retune.distill_hidden",
    "+task=rte tune.train=everything": "tune.train=everything",
    "+task=rte prompt.length=5000": "prompt.length",
    "+task=rte prompt.kind=softer": "prompt.kind=softer",
    "+task=rte prompt.init=random": "prompt.init=random",
    "+task=rte data.max_length=2": "data.max_length",
    "+task=rte data.train_rows=0": "data.train_rows",
    "+task=rte data.source=web": "data.source=web",
    "+task=rte seed=99999999999999": "seed",
    "+task=rte attribution.samples=0": "attribution.samples",
    "+task=rte attribution.options.tokens=maximum": "attribution.options.tokens=maximum",
    "+task=rte task.validation=train": "task.validation=train",
    "+task=rte task.extra=[test,test]": "task.extra",
    "+task=rte benchmark.repeats=0": "benchmark.repeats",
    "+task=rte trainer.accelerator=tpu9": "trainer.accelerator=tpu9",
    "+task=rte trainer.devices=0": "trainer.devices",
    "+task=rte logger.mode=on": "logger.mode",
    "+task=rte backbone.layers=0": "backbone.layers",
    "+task=rte backbone.pooling=max": "backbone.pooling=max",
    "+task=rte backbone.family=gpt": "backbone.family=gpt",
    "+task=rte backbone=t5_mini backbone.readout=mlm": "backbone.readout",
    "+task=rte backbone.readout=seq2seq": "backbone.readout",
    "+task=rte backbone.readout=mlm task.words=[]": "task.words",
    "+task=rte task.words=[yes]": "task.words",
    "+task=rte prune.max_drop=1": "prune.max_drop",
    "+task=rte prune.ratio=auto": "prune.ratio=auto",
    "+task=rte prune.ratio=auto prune.max_drop=1 prune.target_speedup=2": "prune.target_speedup",
    "+task=rte prune.target_speedup=2 prune.steps=3": "prune.steps",
    "+task=rte prune.steps=2 prune.step_epochs=1 retune.enabled=false": "prune.step_epochs",
    "+task=rte tune.train=full": "tune.train=full",
    "+task=rte tune.train=lora retune.train=bias": "retune.train=bias",
    "+task=rte tune.train=lora tune.rank=4": "retune.rank",
    "+task=rte prompt=none tune.train=prompt": "prompt.kind=none",
    "+task=rte experiment=readout backbone=t5_mini": "prompt.kind=none",
    "+task=rte data.source=sample": "data.source=sample embedded",
    "+task=rte data.dir=${oc.env:NO_SUCH}": "data.dir NO_SUCH",
    "+task=rte seed=${nowhere}": "seed nowhere",
    "+task=rte seed=${seed}": "seed",
    "+task=rte -cn": "--config-name",
    "+task=rte --cfg nope": "--cfg nope",
    "-cn tabel2": "tabel2 table2",
    "--config-dir nowhere +task=rte": "nowhere",
    "--config-dir own -cd precious +task=rte": "--config-dir own precious",
    "trane": "trane",
    "": "+task rte",
    "prune.ratio=0.1,0.2 -m": "+task rte",
    "task=rte": "+task=rte",
    "+task=rte hydra.nonsense=1": "hydra.nonsense",
    "+task=rte +prune.ratoi=0.3": "prune.ratoi prune.ratio",
    "+task=rte seed=1,2 prune.ratoi=1 -m": "prune.ratoi prune.ratio",
    "+task=rte prune.ratio=half": "prune.ratio=half auto",
    "+task=rte prune.ratio=0.3,half -m": "prune.ratio=half auto",
    "+task=rte prune.ratio=null": "prune.ratio=None",
    "+task=rte prune.ratio=0.3,0.5": "prune.ratio=0.3,0.5 --multirun",
    "+task=rte prune.sites=ffn": "prune.sites=ffn",
    "+task=rte tune=3": "tune=3",
    "+task=rte ~prune.ratio": "prune.ratio",
    "+task=rte ~backbone": "backbone.name",
    "task.name=mine": "task.text",
    "+task=rte output_dir=x": "output_dir=x hydra.run.dir",
    "+task=rte tune.epochs=3,-1 -m": "tune.epochs=-1",
    "+task=rte --nonsense": "--nonsense",
}
FILES = {  # task files: text, and what the line has to name
    "cut off": ("name: [mine", "mine.yaml line 1"),
    "a tab": ("name: mine\n\tlabel: x", "mine.yaml line 2"),
    "a key twice": ("name: mine\nname: yours", "mine.yaml name"),
    "an unknown key": ("name: mine\nlables: [a, b]", "task/mine task.lables"),
    "a wrong type": ("name: mine\nlabels: 3", "task/mine task.labels"),
    "a list": ("- name: mine", "task/mine"),
    "a text": ("mine", "task/mine"),
    "nothing": ("", "+task"),
    "too little": ("name: mine", "task.text"),
    "not UTF-8": ("name: m\udcffine", "mine.yaml utf-8"),
    "a Python object": ("name: !!python/object/apply:os.system ['touch ran']", "mine.yaml"),
    "one label": ("name: mine\ntext: [a]\nlabels: [x]\nmetrics: [accuracy]", "task.labels"),
    "no metric": ("name: mine\ntext: [a]\nlabels: [x, y]\nmetrics: [auc]", "task.metrics auc"),
}
OTHERS = {
    "predict nowhere text": "nowhere",
    "predict": "SKILL",
    "export nowhere out": "nowhere",
    "export nowhere out --format tflite": "--format tflite",
    "benchmark nowhere": "nowhere",
    "report nowhere": "nowhere",
    "table2 --profile=full": "--profile full",
    "table2 --no-run --profile offline prune.ratio=0.1": "prune.ratio",
    "table2 --no-run --profile offline tune.epoch=1": "tune.epoch tune.epochs",
    "compare": "--by",
    "compare nowhere --by attribution": "nowhere",
    "cache": "verb",
    "cache empty": "empty",
    "cache prune": "--days",
    "dashboard": "--entity",
}


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("+task=rte prune.ratio=1.0", "prune.ratio=1.0"),
        ("+task=rte seed=1,2 prompt.kind=foo -m", "prompt.kind=foo"),
        ("+task=rte data.source=local data.dir=nowhere logger=none", "data.dir=nowhere"),
        ("+task=rte data.source=local data.dir=. logger=none", "data.dir=. rte"),
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
