"""The forms of a finished skill: in fp32 or bf16 by PyTorch, with 8-bit weights by ONNX Runtime."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import torch

from skip_exp.errors import SkipError
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.export.onnx.runtime import OnnxSkill, check_packages
from skip_exp.skill.skill import Skill
from skip_exp.utils.machine import multiplies_bf16
from skip_exp.utils.timing import alone, interleave

log = logging.getLogger(__name__)

SECONDS = 4.0  # of each model, about; they answer in turns
FEWEST_TURNS, MOST_TURNS = 5, 30  # fewer texts, where all of them would take longer
TEXTS = 32  # that are timed at least


class Speed(NamedTuple):
    """Texts a second, tokenizer included: median, and half the interquartile range."""

    texts: float
    spread: float


def list_forms() -> list[str]:
    """The forms that this machine runs well; the log says what is left out.

    bf16 needs a processor that multiplies it faster than fp32, int8 the packages of the export.
    """
    forms = ["fp32"]
    if multiplies_bf16():
        forms.append("bf16")
    try:
        check_packages("onnx", "onnxruntime", "onnxscript")
        forms.append("int8")
    except SkipError as error:
        log.info("left out: 8-bit weights (%s)", error)
    return forms


def export_all(folders: Mapping[Path, Path]) -> None:
    """Export skills with 8-bit weights into their folders, where those are not there yet.

    They are written side by side, since a process of its own traces each of them, on one core. The
    log says which of them has no such export.
    """

    def export(skill: Skill, folder: Path) -> None:
        try:
            skill.export(folder, "onnx", int8=True)
        except SkipError as error:
            log.warning("left out: 8-bit weights for %s: %s", folder, error)

    missing = [(skill, folder) for skill, folder in folders.items() if not folder.is_dir()]
    skills = [Skill.load(skill) for skill, _ in missing]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(export, skills, [folder for _, folder in missing]))


def open_form(form: str, folder: Path) -> Classifier:
    """The skill, or for int8 the 8-bit export, in ``folder``. Raises SkipError."""
    if form == "int8":
        return OnnxSkill.load(folder, torch.get_num_threads())
    return Skill.load(folder, precision="bf16" if form == "bf16" else "32-true")


def megabytes(classifier: Classifier) -> float:
    """Size of a model on disk in 10^6 bytes: an export's files, or a checkpoint in fp32."""
    if isinstance(classifier, OnnxSkill):
        files = classifier.source[0].iterdir()
        return sum(file.stat().st_size for file in files if file.is_file()) / 1e6
    if isinstance(classifier, Skill):
        return 4 * sum(p.numel() for p in classifier.model.parameters()) / 1e6
    raise TypeError(f"{type(classifier).__name__} is not one model")


def time_in_turns(
    calls: Sequence[Callable[[list[list[str]]], object]], texts: list[list[str]]
) -> tuple[list[Speed], bool]:
    """The speed of each call on these texts, A B C A B C ..., and whether others were busy.

    Slow models answer fewer of the texts.

    Args:
        calls: answer texts, such as :meth:`Classifier.probabilities`.
    """
    first, seconds = texts[:TEXTS], SECONDS * len(calls)

    def measure() -> tuple[list[list[float]], int]:
        start = time.perf_counter()
        interleave([partial(call, first) for call in calls], repeats=1, warmup=1)
        turn = (time.perf_counter() - start) / 2  # of the first texts
        count = round(len(first) * seconds / (FEWEST_TURNS * turn))
        answered = texts[: max(len(first), count)]
        turns = round(seconds * len(first) / (turn * len(answered)))
        bound = [partial(call, answered) for call in calls]
        repeats = min(MOST_TURNS, max(FEWEST_TURNS, turns))
        return interleave(bound, repeats=repeats, warmup=1), len(answered)

    (times, count), contended = alone(measure)
    speeds = []
    for of_call in times:
        rates = [count / took for took in of_call]
        low, _, high = quantiles(rates, n=4)
        speeds.append(Speed(median(rates), (high - low) / 2))
    return speeds, contended
