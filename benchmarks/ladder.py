"""The ladder: from PEFT as a user starts with it to a cut model in 8 bits, step by step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks import baseline
from benchmarks.models import RATIO, data_folder, minilm, task_name, texts
from benchmarks.tables import Options, Reach, Row
from benchmarks.timing import Times, compare, job, one_by_one, side_by_side
from skip_exp import results
from skip_exp.cache.version import digest
from skip_exp.data.rows import Rows, get_labels, get_texts
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.export.onnx.runtime import OnnxSkill
from skip_exp.skill.record import TENSORS
from skip_exp.skill.skill import Skill
from skip_exp.utils.timing import best_device

TITLE = "The ladder"
ABOUT = (
    "Validation texts in, labels out, tokeniser included; minilm. PEFT: prompt tuning on the dense "
    "model, batches of 32 with dynamic padding, in file order; then tokenised at once and in order "
    "of length; then with bf16 weights, where the machine computes bf16 faster. Ours: skills of "
    "one sweep over prune.ratio, by their `predict`, precision `auto`: bf16 likewise; the last two "
    "also exported, in fp32 and with 8-bit weights. Theirs: the step before, of an export the same "
    "model in PyTorch; ratio: what a step adds. Accuracy: in percent, theirs the better of PEFT in "
    "fp32 and our dense model, ratio the difference in points; PEFT was trained for five epochs, "
    "our dense model for two and three of re-tuning, cut ones re-tuned for as many as "
    "retune.budget allows (15 at 90 %), or all as those given by --jobs were. Then the fastest of "
    "ours that is within 1.5 points of it on these texts, against PEFT in file order and at its "
    "best. One text: a call of `predict` for one text after another, at 90 %, a hundred of one "
    "model and then of the next; theirs: PEFT in fp32."
)
RATIOS = (0.0, RATIO, 0.9, 0.95)  # of the skills; the first is our dense model
SINGLE = 0.9  # the skill that answers single texts
EPOCHS = (2, 3)  # of tune and, by default, of retune; PEFT trains for the sum
QUICK = 64  # texts
WITHIN = 1.5  # points that a setting may score less
PEFT = "PEFT, fp32, file order"
PEFT_SORTED = "PEFT, fp32, sorted"
PEFT_BF16 = "PEFT, bf16, sorted"
EXPORTS = {", onnx fp32": False, ", onnx int8": True}  # behind a model's name: whether in 8 bits

Text = tuple[str, ...]  # one text or a pair
Answer = Callable[[Sequence[Text]], list[str]]  # texts -> names of labels


@dataclass(frozen=True)
class Work:
    """A task's validation texts and what they are labelled; how a row names them."""

    setting: str
    texts: list[Text]
    labels: list[str]


def measure(options: Options) -> list[Row]:
    """Rows of every task."""
    return [row for task in options.tasks for row in measure_task(task, options)]


def measure_task(task: str, options: Options) -> list[Row]:
    """The steps, what they score, how fast the best is, and single texts."""
    raw = texts(task, options.conf)
    skills, work = skill_folders(task, options), validation(raw, QUICK if options.quick else None)
    peft = baseline.task_model(raw, options.work, 0 if options.quick else sum(EPOCHS))
    theirs, ours = peft_steps(peft, raw.spec.labels), our_steps(skills, options.work)
    steps = {**theirs, **ours}
    calls = [partial(answer, work.texts) for answer in steps.values()]
    times = side_by_side(calls, seconds=options.seconds(60.0))
    scores = {name: accuracy(answer(work.texts), work.labels) for name, answer in steps.items()}
    ladder = Ladder(work, list(theirs), list(ours), times, scores)
    table = [*ladder.climbed(), *ladder.scored(), *ladder.reached()]
    return table + single_texts(work, theirs[PEFT], skills[SINGLE], options)


def validation(raw: Rows, first: int | None) -> Work:
    """The ``first`` texts of the validation split; None: all."""
    texts = get_texts(raw.validation[:first])
    labels = [raw.spec.labels[i] for i in get_labels(raw.validation[:first])]
    return Work(f"{task_name(raw.spec.name, raw.is_sample)}, {len(texts)} texts", texts, labels)


def peft_steps(model: nn.Module, labels: Sequence[str]) -> dict[str, Answer]:
    """PEFT's model as it is first used, sorted, and in bf16."""
    words = minilm().tokenizer

    def answer(model: nn.Module, by_length: bool, rows: Sequence[Text]) -> list[str]:
        return [labels[i] for i in baseline.answer(model, words, rows, by_length)]

    steps: dict[str, Answer] = {PEFT: partial(answer, model, False)}
    steps[PEFT_SORTED] = partial(answer, model, True)
    if baseline.native_bf16():
        steps[PEFT_BF16] = partial(answer, baseline.in_bf16(model), True)
    return steps


def our_steps(skills: Mapping[float, Path], work: Path) -> dict[str, Answer]:
    """Our dense model, the cut ones, and exports of the two smallest; on a GPU there are none."""
    names = {r: f"{100 * r:.0f} % cut" if r else "our dense model" for r in skills}
    served = {names[ratio]: in_torch(folder, "auto") for ratio, folder in skills.items()}
    if best_device() == "cpu":
        for export_name, int8 in EXPORTS.items():
            for ratio in list(skills)[-2:]:
                served[names[ratio] + export_name] = in_onnx(skills[ratio], work, int8=int8)
    return {name: partial(labels_of, classifier) for name, classifier in served.items()}


def in_torch(folder: Path, precision: str) -> Classifier:
    """A skill on the best device."""
    skill = Skill.load(folder, precision=precision)
    skill.model.to(best_device())
    return skill


def in_onnx(folder: Path, work: Path, *, int8: bool) -> Classifier:
    """A skill's export, made once."""
    name = f"{'int8' if int8 else 'onnx'}-{digest((folder / TENSORS).read_bytes().hex())[:16]}"
    if not (work / name).is_dir():
        Skill.load(folder).export(work / name, "onnx", int8=int8)
    return OnnxSkill.load(work / name, torch.get_num_threads())


def labels_of(classifier: Classifier, rows: Sequence[Text]) -> list[str]:
    return [str(answer["label"]) for answer in classifier.predict(rows)]


def accuracy(answers: Sequence[object], labels: Sequence[object]) -> float:
    """Fraction that is right."""
    return sum(a == b for a, b in zip(answers, labels, strict=True)) / len(labels)


@dataclass(frozen=True)
class Ladder:
    """The steps of one task, as they were measured.

    Attributes:
        theirs, ours: names of the steps, in order; the first of ours is the dense model.
        times: of all of theirs, then of all of ours.
        scores: accuracy by name.
    """

    work: Work
    theirs: list[str]
    ours: list[str]
    times: Times
    scores: dict[str, float]

    @property
    def better(self) -> float:
        """The accuracy to compare with: of PEFT in fp32 or our dense model."""
        return max(self.scores[self.theirs[0]], self.scores[self.ours[0]])

    def against(self, name: str, ours: int, theirs: int | None, reach: Reach | None = None) -> Row:
        """Texts a second of two steps."""
        whole = partial(compare, unit="texts/s", of=len(self.work.texts), reach=reach)
        return whole(name, self.work.setting, self.times, ours=ours, theirs=theirs)

    def climbed(self) -> list[Row]:
        """Every step against the one before; an export against the same model in PyTorch."""
        names, rows = [*self.theirs, *self.ours], []
        for i, name in enumerate(names):
            of = next((name.removesuffix(end) for end in EXPORTS if name.endswith(end)), None)
            other = i - 1 if of is None else names.index(of)
            rows.append(self.against(name, i, other if i else None))
        return rows

    def scored(self) -> list[Row]:
        """Every step's accuracy; what is cut should be within WITHIN points of the better one."""
        rows = []
        for name, score in self.scores.items():
            points = 100 * (score - self.better)
            reach = Reach(low=-WITHIN) if name in self.ours[1:] else None
            figures = (100 * score, 100 * self.better, "%", points)
            rows.append(Row(f"accuracy, {name}", self.work.setting, *figures, reach=reach))
        return rows

    def reached(self) -> list[Row]:
        """The fastest of ours that scores well enough, against PEFT as it is first and at best."""
        names = [*self.theirs, *self.ours]
        good = [n for n in self.ours if 100 * (self.scores[n] - self.better) >= -WITHIN]
        if not good:  # the rows of the scores say so
            return []
        best = min(map(names.index, good), key=self.times.median)
        last = len(self.theirs) - 1
        return [
            self.against(f"{names[best]}, against {names[other]}", best, other, Reach(low=low))
            for other, low in ((0, 30.0), (last, 10.0))
        ]


def single_texts(work: Work, peft: Answer, folder: Path, options: Options) -> list[Row]:
    """Median and 99th percentile of one text at a time, the same texts for all."""
    served = {"torch, fp32": in_torch(folder, "32-true"), "torch, bf16": in_torch(folder, "auto")}
    if best_device() == "cpu":
        served["onnx, fp32"] = in_onnx(folder, options.work, int8=False)
        served["onnx, int8"] = in_onnx(folder, options.work, int8=True)
    answers: list[Answer] = [peft, *(partial(labels_of, of) for of in served.values())]
    texts: list[Sequence[Text]] = [[text] for text in work.texts]
    times = one_by_one(answers, texts, seconds=options.seconds(60.0))
    rows = []
    for call, name in enumerate(served, 1):
        rows.append(
            compare(f"one text, {name}", work.setting, times, ours=call, theirs=0, unit="ms")
        )
        ours, theirs = (1e3 * times.tail(i) for i in (call, 0))
        name = f"one text, {name}, 99th percentile"
        rows.append(
            Row(name, work.setting, ours, theirs, "ms", theirs / ours, contended=times.contended)
        )
    return rows


def skill_folders(task: str, options: Options) -> dict[float, Path]:
    """A finished skill of the task at every one of RATIOS: given, or of a sweep run here, once."""
    found = finished(task, options.jobs)
    if not set(RATIOS) <= found.keys():
        folder = options.work / f"ladder-{task}"
        job(sweep(task, folder, options))
        found = finished(task, [folder])
    return {ratio: found[ratio] for ratio in RATIOS}


def finished(task: str, folders: Sequence[Path]) -> dict[float, Path]:
    """Ratio -> skill of the finished jobs of a task on minilm below ``folders``."""
    return {
        float(result.ratio or 0): Path(str(result.path)).parent / str(result.skill)
        for result in (results.load(folders) if folders else [])
        if result.status == "done" and (result.task, result.backbone) == (task, "minilm")
    }


def sweep(task: str, folder: Path, options: Options) -> list[str]:
    """What makes the skills: the default recipe, in few epochs."""
    tune, retune = (1, 1) if options.quick else (EPOCHS[0], "null")
    return [
        *([] if options.conf is None else ["--config-dir", str(options.conf)]),
        *(f"+task={task}", f"prune.ratio={','.join(map(str, RATIOS))}", "-m"),
        *(f"tune.epochs={tune}", f"retune.epochs={retune}", "benchmark.enabled=false"),
        *("tune.min_steps=0", "retune.min_steps=0", "retune.budget=0"),
        *("logger=none", "trainer.progress=false", f"hydra.sweep.dir={folder}"),
        f"cache.dir={options.work / 'cache'}",
        *([] if data_folder() else ["data.source=embedded"]),
    ]
