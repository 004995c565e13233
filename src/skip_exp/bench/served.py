"""Served throughput: text in, label out, tokeniser included."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from skip_exp import results
from skip_exp.bench import baseline, data
from skip_exp.bench.models import RATIO
from skip_exp.bench.row import Options, Reach, Row
from skip_exp.bench.timing import Times, side_by_side
from skip_exp.cache.versions import digest
from skip_exp.data.module import LengthGroupedSampler
from skip_exp.data.sources import RawTask
from skip_exp.errors import SkipError
from skip_exp.export import export
from skip_exp.machine.timing import best_device
from skip_exp.models.backbones import embedded_folder
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.files import TENSORS
from skip_exp.skill.onnx import OnnxSkill
from skip_exp.skill.skill import Skill
from skip_exp.training.trainer import resolve_precision

TITLE = "Served throughput"
ABOUT = (
    "Validation texts in, labels out, tokeniser included; minilm. Ours: a skill at 52 %, exported "
    "with 8-bit weights (`skip_exp.export --format onnx --int8`) or in bf16 (`Skill.load(..., "
    "precision='auto')`), each by its `predict`. Theirs: PEFT prompt tuning on the dense model, "
    "fp32, batches of 32 with dynamic padding, in file order (`sorted`: in order of length). "
    "Ratio: how many times as many texts a second. Score: validation metric in percent, ours "
    "against the better of PEFT and our dense model, ratio the difference in points; both trained "
    "for equally many epochs in all. RTE is at chance for this backbone: its score is not "
    "compared."
)
# Of tune and retune; PEFT trains for the sum. What RTE learns in it would be no more than chance.
EPOCHS = {"sst2": (1, 1), "rte": (1, 0)}
QUICK = 96  # texts
Texts = Sequence[tuple[str, ...]]


def measure(options: Options) -> list[Row]:
    """Rows of both tasks."""
    return [
        row
        for task in (("sst2",) if options.quick else tuple(EPOCHS))
        for row in _rows(task, options)
    ]


def served(skill: Path, work: Path) -> dict[str, Classifier]:
    """Our settings for serving: on a GPU there is no int8."""
    bf16 = Skill.load(skill, precision="auto")
    bf16.model.to(best_device())
    if best_device() != "cpu":
        return {"bf16": bf16}
    folder = work / f"int8-{digest((skill / TENSORS).read_bytes().hex())[:16]}"
    if not folder.is_dir():
        export(Skill.load(skill), folder, "onnx", int8=True)
    return {"int8": OnnxSkill.load(folder), "bf16": bf16}


def _rows(task: str, options: Options) -> list[Row]:
    raw, skill = data.raw(task), skill_folder(task, options)
    ours = served(skill, options.work)
    with_score = task == "sst2" and not options.quick
    theirs = peft_model(raw, options.work, sum(EPOCHS[task]) if with_score else 0)
    texts, labels = validation(raw)
    if options.quick:
        texts, labels = texts[:QUICK], labels[:QUICK]
    tokenizer = data.minilm().tokenizer
    calls: list[Callable[[], object]] = [
        lambda: baseline.answer(theirs, tokenizer, texts, data.MAX_LENGTH),
        lambda: baseline.answer(theirs, tokenizer, texts, data.MAX_LENGTH, by_length=True),
        *(partial(own.predict, texts) for own in ours.values()),
    ]
    times = side_by_side(calls, seconds=0.0 if options.quick else 30.0, least=3)
    setting = f"{data.named(task, raw.is_sample)}, {len(texts)} texts"
    rows = []
    best = min(range(2, 2 + len(ours)), key=times.median)  # what a user would take
    for at, name in enumerate(ours, 2):
        reach = Reach(low=8.0) if at == best else None
        rows.append(_throughput(setting, f"{name}, file order", times, at, 0, len(texts), reach))
        rows.append(_throughput(setting, f"{name}, sorted", times, at, 1, len(texts), None))
    if with_score:
        names = [raw.spec.labels[i] for i in labels]
        other = score(baseline.answer(theirs, tokenizer, texts, data.MAX_LENGTH), labels)
        for name, own in ours.items():
            found = score([answer["label"] for answer in own.predict(texts)], names)
            rows.append(_score(setting, name, found, other, dense_score(skill)))
    return rows


def _throughput(
    setting: str, how: str, times: Times, our: int, their: int, texts: int, reach: Reach | None
) -> Row:
    ratio, spread = times.ratio(their, our)
    ours, theirs = texts / times.median(our), texts / times.median(their)
    name = f"against PEFT, {how}"
    return Row(name, setting, ours, theirs, "texts/s", ratio, spread, reach, times.contended)


def _score(setting: str, how: str, ours: float, peft: float, dense: float | None) -> Row:
    """``ratio`` is the difference in points to the better of the two."""
    better = max(100 * value for value in (peft, dense) if value is not None)
    beside = "" if dense is None else f" (PEFT {100 * peft:.1f}, our dense {100 * dense:.1f})"
    name = f"score, {how}{beside}"
    difference = 100 * ours - better
    return Row(name, setting, 100 * ours, better, "%", difference, reach=Reach(low=-1.5))


def validation(raw: RawTask) -> tuple[list[tuple[str, ...]], list[int]]:
    """Texts of the validation split, one or two strings each, and their labels."""
    split = raw.splits[raw.spec.validation]
    columns = [split.text_a] if split.text_b is None else [split.text_a, split.text_b]
    return list(zip(*columns, strict=True)), split.label


def score(found: Sequence[object], labels: Sequence[object]) -> float:
    """Fraction that is right."""
    return sum(a == b for a, b in zip(found, labels, strict=True)) / len(labels)


def skill_folder(task: str, options: Options) -> Path:
    """A finished skill of the task: one that was given, or that of a job run here, once."""
    for folder in options.skills:
        if Skill.load(folder).about.task == task:
            return folder
    tune, retune = (1, 1) if options.quick else EPOCHS[task]
    folder = options.work / f"{task}-{tune}-{retune}"
    overrides = [f"+task={task}", f"prune.ratio={RATIO}", "logger=none", "trainer.progress=false"]
    overrides += [f"tune.epochs={tune}", "benchmark.enabled=false", "retune.distill=0"]
    overrides += [f"retune.epochs={retune}"] if retune else ["retune.enabled=false"]
    overrides += [f"hydra.run.dir={folder}", f"cache.dir={options.work / 'cache'}"]
    overrides += [] if data.is_real() else ["data.source=sample"]
    code = subprocess.run([sys.executable, "-m", "skip_exp", *overrides]).returncode
    if code:
        raise SkipError(f"the job that tunes the {task} skill failed (exit code {code})")
    return folder / "skill"


def dense_score(skill: Path) -> float | None:
    """Validation metric of the dense model of the skill's job, where its result is beside it."""
    file = skill.parent / results.FILE
    value = json.loads(file.read_text())["metric"]["dense"] if file.is_file() else None
    return None if value is None else float(value)


def peft_model(raw: RawTask, work: Path, epochs: int) -> nn.Module:
    """PEFT's model, trained on the task's train rows; kept in ``work`` and read again.

    Trained in batches of similar length and in bf16 where the machine computes it natively: this
    saves minutes of the benchmark, and it is served in fp32 all the same.
    """
    model = baseline.prompt_tuned(embedded_folder("minilm"), len(raw.spec.labels))
    model.to(best_device())
    if epochs == 0:  # untrained: its speed is that of a trained one
        return model
    versions = [torch.__version__, Path(baseline.__file__).read_text()]
    file = work / f"peft-{digest([raw.fingerprint, epochs, versions])[:16]}.safetensors"
    if not file.is_file():
        train_peft(model, raw, epochs)
        work.mkdir(parents=True, exist_ok=True)
        save_file({n: p.detach().cpu() for n, p in baseline.trained(model).items()}, file)
    state = load_file(file)
    with torch.no_grad():
        for name, parameter in baseline.trained(model).items():
            parameter.copy_(state[name])
    return model.eval()


def train_peft(model: nn.Module, raw: RawTask, epochs: int) -> None:
    """Train on the same rows as our ``tune`` phase: the selection slice is left out."""
    rows = data.encoded(raw).train
    lengths = [len(row["input_ids"]) for row in rows]
    sampler = LengthGroupedSampler(lengths, baseline.BATCH, seed=1)
    bf16 = resolve_precision("auto", "auto") == "bf16-mixed"
    steps = epochs * -(-len(rows) // baseline.BATCH)
    loop = baseline.Loop(model, steps, bf16=bf16)
    pad = data.minilm().tokenizer.pad_token_id
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        loop.run(baseline.batches([rows[i] for i in sampler], pad))
