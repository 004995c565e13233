"""Two skills on one backbone in memory: what loading, sharing and switching cost, measured.

python -m skip_exp +task=sst2,rte prune.ratio=0.5 hydra.sweep.dir=outputs/two -m
python examples/two_skills.py outputs/two/0-*/skill outputs/two/1-*/skill
"""

import statistics
import sys
import time
from pathlib import Path

from skip_exp import Skill
from skip_exp.errors import SkipError

TEXT = "A warm and quietly funny film about two brothers who inherit a lighthouse."
CALLS = 100


def main(folders: list[str]) -> None:
    first, first_s = load(folders[0])
    second, second_s = load(folders[1])
    print(f"load {first.about.task}: {first_s:.2f} s, the backbone included")
    print(f"load {second.about.task}: {second_s:.2f} s")
    for skill, folder in zip((first, second), folders, strict=True):
        files = sum(file.stat().st_size for file in Path(folder).iterdir())
        print(f"  {skill.about.task}: {files / 1e3:.0f} kB on disk, {answer(skill)}")

    one, two = weights(first), weights(second)
    shared = sum(size for place, size in one.items() if place in two)
    print(f"weights: {sum(one.values()) / 1e6:.1f} MB and {sum(two.values()) / 1e6:.1f} MB,")
    print(f"  of which {shared / 1e6:.1f} MB are the same memory")

    in_a_row = timed([first] * CALLS) + timed([second] * CALLS)
    in_turn = timed([first, second] * CALLS)
    print(f"one text, the same skill again: {statistics.median(in_a_row):.2f} ms")
    print(f"one text, the other skill each time: {statistics.median(in_turn):.2f} ms")


def load(folder: str) -> tuple[Skill, float]:
    start = time.perf_counter()
    skill = Skill.load(folder)
    return skill, time.perf_counter() - start


def example(skill: Skill) -> str | list[str]:
    return TEXT if len(skill.about.text) == 1 else [TEXT, "Two brothers inherit a lighthouse."]


def answer(skill: Skill) -> str:
    (found,) = skill.predict([example(skill)])
    return f"{found['label']} ({found['probabilities'][found['label']]:.2f})"


def weights(skill: Skill) -> dict[int, int]:
    """Address -> bytes of every tensor."""
    return {p.data_ptr(): p.numel() * p.element_size() for p in skill.model.parameters()}


def timed(skills: list[Skill]) -> list[float]:
    """Milliseconds of one call of each."""
    milliseconds = []
    for skill in skills:
        start = time.perf_counter()
        skill.predict([example(skill)])
        milliseconds.append((time.perf_counter() - start) * 1e3)
    return milliseconds


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {sys.argv[0]} SKILL SKILL")
    try:
        main(sys.argv[1:])
    except SkipError as error:
        sys.exit(f"error: {error}")
