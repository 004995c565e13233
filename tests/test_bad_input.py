"""Wrong commands and files as users make them: one line each, no traceback, nothing lost."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skip_exp.__main__ import COMMANDS, main
from tests.conftest import Cli

R = "+task=rte"
WRONG: dict[str, str] = {
    # groups
    "+task=sst": "task=sst: no such choice; must be one of ag_news, .*; did you mean sst2",
    "+task=RTE": "task=RTE: no such choice; must be one of",
    "+task=": "task",
    "+task=3": "task=3: must be one of ag_news",
    f"{R} backbone=bert": "backbone=bert: no such choice; must be one of .*did you mean bert_",
    f"{R} backbone=minilm,minlm -m": "backbone=minlm: .*did you mean minilm",
    f"{R} attribution=taylr": "attribution=taylr: no such choice; .*did you mean taylor",
    f"{R} attribution=0.5": "attribution=0.5: must be one of activation_gradient",
    f"{R} prompt=prefx": "prompt=prefx: .*did you mean prefix",
    f"{R} prompt=true": "prompt=true: must be one of input, none, prefix",
    f"{R} prune=0.5,0.7 -m": r"prune=0\.5: must be one of default, uniform",
    f"{R} prune={{ratio:0.5}}": "prune={ratio:0.5}: must be one of default, uniform",
    f"{R} trainer=tpu": "trainer=tpu: no such choice; must be one of cpu, ddp",
    f"{R} logger=tensorboard": "logger=tensorboard: no such choice; must be one of csv",
    f"{R} experiment=papr": "experiment=papr: .*did you mean paper",
    f"{R} +backbone=minilm": "backbone: has a choice already; write backbone=CHOICE, no plus",
    # keys
    f"{R} ratio=0.5": "ratio=0.5: no such key; did you mean prune.ratio",
    f"{R} prune.ration=0.5": "prune.ration=0.5: no such key; did you mean prune.ratio",
    f"{R} tune.epoch=3": "tune.epoch=3: no such key; did you mean tune.epochs",
    f"{R} +learning_rate=1": "learning_rate=1: no such key",
    f"{R} prompt.size=4": "prompt.size=4: no such key; did you mean prompt.",
    f"{R} --ratio=0.5": "unrecognized arguments: --ratio=0.5",
    f"{R} ratio 0.5": "ratio: not of the form key=value",
    f"{R} prune.ratio:0.5": "prune.ratio:0.5: not of the form key=value",
    f"{R} prune.ratio==0.5": "prune.ratio==0.5: ",
    f"{R} prune.sites=[ffn": r"prune.sites=\[ffn: not of the form key=value",
    # types
    f"{R} tune.epochs=three": "tune.epochs=three: must be a whole number",
    f"{R} tune.epochs=null": "tune.epochs=null: must be a whole number",
    f"{R} tune.lr=fast": "tune.lr=fast: must be a number",
    f"{R} seed=1.5": "seed=1.5: must be a whole number",
    f"{R} retune.enabled=maybe": "retune.enabled=maybe: must be true or false",
    f"{R} prune.ratio=50%": r"prune.ratio=50%: must be a number in \[0, 1\) or auto",
    f"{R} prune.ratio=[0.3,0.5]": r"prune.ratio=\[0\.3,? ?0\.5\]: must be a number in \[0, 1\)",
    f"{R} prune.ratio=true": "prune.ratio=True: must be a number|prune.ratio=true: must be",
    f"{R} task.labels=yes": "task.labels=yes: must be a list",
    f"{R} data.dir={{a:1}}": r"data.dir={a:1}: must be text or null",
    # ranges
    f"{R} prune.ratio=1": r"prune.ratio=1: must be in \[0, 1\)",
    f"{R} prune.ratio=0.3,-0.1 -m": r"prune.ratio=-0.1: must be in \[0, 1\)",
    f"{R} prune.ratio=nan": r"prune.ratio=nan: must be",
    f"{R} prune.sites=[mlp]": "prune.sites=.*mlp.*: must be some of ffn, heads, qk, vo",
    f"{R} prune.sites=[]": r"prune.sites=\[\]: must be some of ffn",
    f"{R} prune.allocation=best": "prune.allocation=best: must be one of global",
    f"{R} prune.steps=0": "prune.steps=0: must be at least 1",
    f"{R} prune.target_speedup=0.5": "prune.target_speedup=0.5: must be at least 1",
    f"{R} tune.epochs=0": "tune.epochs=0: must be positive, at most 1000000",
    f"{R} tune.batch=-8": "tune.batch=-8: must be positive",
    f"{R} tune.lr=1e9": r"tune.lr=1000000000.0: must be positive, at most 10",
    f"{R} tune.lr=.inf": "tune.lr=inf: must be positive, at most 10|tune.lr=.inf: must be a number",
    f"{R} tune.warmup=6": r"tune.warmup=6.0: must be in \[0, 1\]",
    f"{R} retune.rank=0": "retune.rank=0: must be positive, at most 10000",
    f"{R} retune.lora_lr=11": r"retune.lora_lr=11.0: must be in \[0, 10\]",
    f"{R} tune.patience=0": "tune.patience=0: must be positive",
    f"{R} retune.distill=2": r"retune.distill=2.0: must be in \[0, 1\]",
    f"{R} retune.distill_hidden=-1": r"retune.distill_hidden=-1.0: must be in \[0, 1000\]",
    f"{R} tune.train=everything": "tune.train=everything: must be one of prompt, prompt_readout",
    f"{R} prompt.length=5000": "prompt.length=5000: must be positive, at most 1000",
    f"{R} prompt.kind=softer": "prompt.kind=softer: must be one of input, prefix, none, or module",
    f"{R} prompt.init=random": "prompt.init=random: must be one of vocab, text",
    f"{R} data.max_length=2": r"data.max_length=2: must be in \[8, 1000000\]",
    f"{R} data.train_rows=0": "data.train_rows=0: must be positive, at most 1000000000",
    f"{R} data.train_rows=half": "data.train_rows=half: must be a whole number",
    f"{R} data.source=web": "data.source=web: must be one of auto, local, hub, sample",
    f"{R} seed=99999999999999": r"seed=99999999999999: must be in \[0, 4294967295\]",
    f"{R} attribution.samples=0": "attribution.samples=0: must be positive",
    f"{R} attribution.tokens=maximum": "attribution.tokens=maximum: must be one of max, mean, sum",
    f"{R} attribution.sign=abs": "attribution.sign=abs: must be one of signed, absolute",
    f"{R} attribution.target=loss": "attribution.target=loss: must be one of probability, log_pro",
    f"{R} task.validation=train": "task.validation=train: every split counts once",
    f"{R} task.extra=[test,test]": "task.extra=test: every split counts once",
    f"{R} benchmark.repeats=0": "benchmark.repeats=0: must be positive",
    f"{R} trainer.accelerator=tpu9": "trainer.accelerator=tpu9: must be one of auto, cpu, gpu",
    f"{R} trainer.accelerator=mps": "trainer.accelerator=mps: must be one of auto, cpu, gpu, cuda",
    f"{R} trainer.devices=0": "trainer.devices=0: must be at least 1",
    f"{R} trainer.precision=8": "trainer.precision=8: must be one of auto, 32-true",
    f"{R} logger.mode=on": "logger.mode=(on|True|true): must be one of auto, online, offline",
    f"{R} backbone.layers=0": "backbone.layers=0: must be positive, at most 1000",
    f"{R} backbone.layers=two": "backbone.layers=two: must be a whole number or null",
    f"{R} backbone.pooling=max": "backbone.pooling=max: must be one of mean, cls",
    f"{R} backbone.family=gpt": "backbone.family=gpt: must be one of bert, roberta, t5",
    # what does not go together
    f"{R} backbone=t5_mini backbone.readout=mlm": "readout=mlm: t5 has the readouts head, seq2seq",
    f"{R} backbone.readout=seq2seq": "readout=seq2seq: bert has the readouts head, mlm",
    f"{R} backbone.readout=mlm task.words=[]": r"task.words=\[\]: backbone.readout=mlm needs a wor",
    f"{R} task.words=[yes]": "task.words=.*: one per label",
    f"{R} prune.max_drop=1": "prune.max_drop=1.0: needs prune.ratio=auto",
    f"{R} prune.ratio=auto": "prune.ratio=auto: needs prune.max_drop",
    f"{R} prune.ratio=auto prune.max_drop=1 prune.target_speedup=2": "prune.target_speedup=2.0: ",
    f"{R} prune.target_speedup=2 prune.steps=3": "prune.steps=3: must be 1 with prune.target_sp",
    f"{R} prune.steps=2 prune.step_epochs=1 retune.enabled=false": "prune.step_epochs=1: must be 0",
    f"{R} tune.train=full": "tune.train=full: a baseline of its own size: needs prune.ratio=0",
    f"{R} tune.train=lora retune.train=bias": "retune.train=bias: must be lora, as tune.train",
    f"{R} tune.train=lora tune.rank=4": "retune.rank=8: must be 4, as tune.rank",
    f"{R} prompt=none tune.train=prompt": "prompt.kind=none: leaves nothing to train",
    f"{R} experiment=readout backbone=t5_mini": "prompt.kind=none: leaves nothing to train with b",
    f"{R} data.source=sample backbone=bert_base": "data.source=sample: generated data goes with",
    # interpolations, flags
    f"{R} data.dir=${{oc.env:NO_SUCH}}": "data.dir: the environment variable NO_SUCH is not set",
    f"{R} seed=${{nowhere}}": "seed.*nowhere",
    f"{R} seed=${{seed}}": "seed.*",
    f"{R} -cn": "argument --config-name/-cn: expected one argument",
    f"{R} --cfg nope": "argument --cfg/-c: invalid choice: 'nope'",
    "-cn tabel2": "--config-name=tabel2: no such file; must be one of .*did you mean table2",
    "--config-dir nowhere +task=rte": "nowhere' not found",
    "--config-dir . +task=rte --config-dir own": "--config-dir own: .*is given already",
    "-cn table2 -cn smoke": "--config-name smoke: .*table2 is given already",
    "predict": "predict: not of the form key=value|required",
    "trane": "trane: not of the form key=value",
}
FILES: dict[str, tuple[str, str]] = {
    "cut off": ("name: [mine", "mine.yaml.*line 1"),
    "a tab": ("name: mine\n\tlabel: x", "mine.yaml.*line 2"),
    "a key twice": ("name: mine\nname: yours", "mine.yaml.*duplicate key name"),
    "an unknown key": ("name: mine\nlables: [a, b]", "task.lables: no such key.*task.labels"),
    "a wrong type": ("name: mine\nlabels: 3", "task.labels: must be a list"),
    "a list": ("- name: mine", "mine"),
    "a text": ("mine", "mine"),
    "nothing": ("", "task: missing|task.name: missing|task.text: missing"),
    "too little": ("name: mine", "task.text: missing"),
    "not UTF-8": ("name: m\udcffine", "YAML file of the configuration is not UTF-8"),
    "a Python object": ("name: !!python/object/apply:os.system ['touch ran']", "mine.yaml"),
    "one label": ("name: mine\ntext: [a]\nlabels: [x]\nmetrics: [accuracy]", "task.labels=.*two"),
    "no metric": ("name: mine\ntext: [a]\nlabels: [x, y]\nmetrics: [auc]", "task.metrics=.*accura"),
}
OTHERS: dict[str, str] = {
    "predict nowhere text": "nowhere",
    "predict": "required: SKILL",
    "export nowhere out": "nowhere",
    "export nowhere out --format tflite": "--format: invalid choice: 'tflite'",
    "benchmark nowhere": "nowhere",
    "report nowhere": "nowhere",
    "table2 --profile=full": "--profile: invalid choice: 'full'",
    "table2 --no-run --profile offline prune.ratio=0.1": "prune.ratio=0.1: .*sweeps over it",
    "table2 --no-run --profile offline tune.epoch=1": "tune.epoch=1: no such key",
    "compare": "required: --by",
    "compare nowhere --by attribution": "nowhere",
    "cache": "required: verb",
    "cache empty": "invalid choice: 'empty'",
    "cache prune": "required: --days",
    "dashboard": "--entity: needed to save",
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


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_command_is_one_line(cli: Cli, command: str) -> None:
    if command.split()[0] in COMMANDS:
        pytest.skip("a command of its own")
    ended = cli(*command.split())
    assert (ended.code, ended.jobs, ended.out) == (2, [], "")
    assert re.fullmatch(rf"error: .*({WRONG[command]}).*\n", ended.err)


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_file_is_one_line(cli: Cli, tmp_path: Path, name: str) -> None:
    text, told = FILES[name]
    (tmp_path / "own/task").mkdir()
    (tmp_path / "own/task/mine.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    ended = cli("--config-dir", "own", "+task=mine")
    assert (ended.code, ended.jobs) == (2, [])
    assert re.fullmatch(rf"error: .*({told}).*\n", ended.err)
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
    assert re.search(OTHERS[command], told.splitlines()[-1])
    assert len(re.findall("error: ", told)) == 1 and "Traceback" not in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("+task=rte prune.ratio=1.0", r"prune.ratio=1.0: must be in \[0, 1\)"),
        ("+task=rte seed=1,2 prompt.kind=foo -m", "prompt.kind=foo: must be one of input"),
        ("-cn nope", "--config-name=nope: no such file; must be one of .*table2"),
        (
            "+task=rte data.source=local data.dir=nowhere logger=none",
            "data.dir=nowhere: not a fold",
        ),
        ("+task=rte data.source=local data.dir=. logger=none", "data.dir=. has no folder rte"),
    ],
)
def test_as_programs(tmp_path: Path, command: str, told: str) -> None:
    started = time.monotonic()
    run = [sys.executable, "-m", "skip_exp", *command.split()]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode in (1, 2)
    assert re.fullmatch(rf"error: .*{told}.*\n", done.stderr)
    if done.returncode == 2:  # at composition, before torch; a loaded machine has its allowance
        assert time.monotonic() - started < 10
