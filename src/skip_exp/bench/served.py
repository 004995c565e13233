"""Served throughput: text in, label out, tokeniser included."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from skip_exp import results
from skip_exp.bench import baseline
from skip_exp.bench.models import RATIO, data_folder, encoded, minilm, task_name, texts
from skip_exp.bench.tables import Options, Reach, Row
from skip_exp.bench.timing import compare, job, side_by_side
from skip_exp.data.module import LengthGroupedSampler
from skip_exp.data.sources import RawTask
from skip_exp.machine.timing import best_device
from skip_exp.machine.versions import digest
from skip_exp.models.backbones import embedded_folder
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.export import export
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


def measure(options: Options) -> list[Row]:
    """Rows of both tasks."""
    tasks = ("sst2",) if options.quick else tuple(EPOCHS)
    return [row for task in tasks for row in measure_task(task, options)]


def measure_task(task: str, options: Options) -> list[Row]:
    """Throughput of our settings against PEFT's, and for SST-2 their scores."""
    raw, skill = texts(task), skill_folder(task, options)
    ours = served(skill, options.work)
    with_score = task == "sst2" and not options.quick
    peft = peft_model(raw, options.work, sum(EPOCHS[task]) if with_score else 0)
    rows, labels = validation(raw)
    rows = rows[:QUICK] if options.quick else rows
    theirs = partial(baseline.answer, peft, minilm().tokenizer, rows)
    calls: list[Callable[[], object]] = [theirs, partial(theirs, by_length=True)]
    calls += [partial(classifier.predict, rows) for classifier in ours.values()]
    times = side_by_side(calls, seconds=options.seconds(30.0))
    setting = f"{task_name(task, raw.is_sample)}, {len(rows)} texts"
    against = partial(compare, setting=setting, times=times, unit="texts/s", of=len(rows))
    best = min(range(2, len(calls)), key=times.median)  # what a user would take
    table = []
    for call, name in enumerate(ours, 2):
        reach, name = Reach(low=8.0) if call == best else None, f"against PEFT, {name}"
        table.append(against(f"{name}, file order", ours=call, theirs=0, reach=reach))
        table.append(against(f"{name}, sorted", ours=call, theirs=1))
    if with_score:
        names, other = [raw.spec.labels[i] for i in labels], accuracy(theirs(), labels)
        for name, classifier in ours.items():
            right = accuracy([answer["label"] for answer in classifier.predict(rows)], names)
            table.append(score(setting, name, right, other, dense_score(skill)))
    return table


def served(skill: Path, work: Path) -> dict[str, Classifier]:
    """Our settings for serving: on a GPU there is no int8."""
    bf16 = Skill.load(skill, precision="auto")
    bf16.model.to(best_device())
    if best_device() != "cpu":
        return {"bf16": bf16}
    folder = work / f"int8-{digest((skill / TENSORS).read_bytes().hex())[:16]}"
    if not folder.is_dir():
        export(Skill.load(skill), folder, "onnx", int8=True)
    return {"int8": OnnxSkill.load(folder, torch.get_num_threads()), "bf16": bf16}


def validation(raw: RawTask) -> tuple[list[tuple[str, ...]], list[int]]:
    """Texts of the validation split, one or two strings each, and their labels."""
    split = raw.splits[raw.spec.validation]
    columns = [split.text_a] if split.text_b is None else [split.text_a, split.text_b]
    return list(zip(*columns, strict=True)), split.label


def accuracy(answers: Sequence[object], labels: Sequence[object]) -> float:
    """Fraction that is right."""
    return sum(a == b for a, b in zip(answers, labels, strict=True)) / len(labels)


def score(setting: str, name: str, ours: float, peft: float, dense: float | None) -> Row:
    """Fractions in percent; ``ratio`` is the difference in points to the better of the two."""
    better = 100 * max(value for value in (peft, dense) if value is not None)
    beside = "" if dense is None else f" (PEFT {100 * peft:.1f}, our dense {100 * dense:.1f})"
    name, points, reach = f"score, {name}{beside}", 100 * ours - better, Reach(low=-1.5)
    return Row(name, setting, 100 * ours, better, "%", points, reach=reach)


def skill_folder(task: str, options: Options) -> Path:
    """A finished skill of the task: one that was given, or that of a job run here, once."""
    for folder in options.skills:
        if Skill.load(folder).about.task == task:
            return folder
    tune, retune = (1, 1) if options.quick else EPOCHS[task]
    folder = options.work / f"{task}-{tune}-{retune}"
    overrides = [
        *(f"+task={task}", f"prune.ratio={RATIO}", "logger=none", "trainer.progress=false"),
        *(f"tune.epochs={tune}", "benchmark.enabled=false", "retune.distill=0"),
        *(f"retune.epochs={retune}" if retune else "retune.enabled=false",),
        *(f"hydra.run.dir={folder}", f"cache.dir={options.work / 'cache'}"),
    ]
    job([*overrides, *([] if data_folder() else ["data.source=sample"])])
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
    rows = encoded(raw).train
    lengths = [len(row["input_ids"]) for row in rows]
    sampler = LengthGroupedSampler(lengths, baseline.BATCH, seed=1)
    bf16 = resolve_precision("auto", "auto") == "bf16-mixed"
    steps = epochs * -(-len(rows) // baseline.BATCH)
    loop = baseline.Loop(model, steps, bf16=bf16)
    pad = minilm().tokenizer.pad_token_id
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        loop.run(baseline.batches([rows[i] for i in sampler], pad))
