"""The parts of an anatomy that train: what a set of neurons is worth after re-tuning.

Half of the selection slice chooses the epoch, the other half is scored: balanced accuracy, as a
fraction. The teacher has seen all rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from skip_exp.models.family import Keep
from skip_exp.utils.machine import git_commit
from studies.anatomy.jobs import Subject
from studies.anatomy.measure import CONTROL, Row
from studies.anatomy.neurons import draw

Case = tuple[Subject, Row, Keep]  # what is re-tuned, its row of the table, the neurons that it has


@dataclass(frozen=True)
class Options:
    """What is re-tuned.

    Attributes:
        ratio: of the block parameters that are removed.
        methods: attributions, beside the jobs' own.
        rows: numbers of train rows.
        draws: of random neurons.
    """

    ratio: float = 0.9
    methods: Sequence[str] = ()
    rows: Sequence[int] = (1024,)
    draws: int = 1


def transfer(subjects: Sequence[Subject], options: Options) -> Iterator[Case]:
    """Every task with the skill neurons of every task of its backbone and seed.

    Beside each a control: as many random neurons of each layer.
    """
    for subject in subjects:
        for owner in subjects:
            if (owner.backbone, owner.seed) != (subject.backbone, subject.seed):
                continue
            skill = owner.keep(options.ratio)
            seed = subject.draw_seed(f"{subject.task} {owner.task}")
            control = draw(skill, owner.sizes, seed)
            for is_random, keep in ((False, skill), (True, control)):
                how = {"kept": owner.task, "is_random": is_random, "ratio": options.ratio}
                for rows in options.rows:
                    yield subject, {**subject.about, **how, "rows": rows}, keep


def scarcity(subjects: Sequence[Subject], options: Options) -> Iterator[Case]:
    """Every task re-tuned on few rows after cuts by several methods and at random.

    Random neurons are as many of each layer as the jobs' own attribution keeps.
    """
    for subject in subjects:
        for by, number, keep in _choices(subject, options):
            for rows in options.rows:
                how = {"by": by, "draw": number, "ratio": options.ratio}
                how["rows"] = min(rows, len(subject.job.data.train))
                yield subject, {**subject.about, **how}, keep


def _choices(subject: Subject, options: Options) -> Iterator[tuple[str, int, Keep]]:
    """(method, number of the draw, what stays)."""
    for by in options.methods:
        yield by, 0, subject.keep(options.ratio, subject.relevance_by(by))
    skill = subject.keep(options.ratio)
    for number in range(options.draws):
        purpose = f"{subject.task} {subject.task}"
        if number:
            purpose += f" {number}"
        yield CONTROL, number, draw(skill, subject.sizes, subject.draw_seed(purpose))


TRAINED: dict[str, Callable[[Sequence[Subject], Options], Iterator[Case]]] = {
    "transfer": transfer,
    "scarcity": scarcity,
}


def add_rows(cases: Iterator[Case], path: Path) -> None:
    """Re-tune every case whose row the table lacks, and append its row at once."""
    known = pd.read_csv(path).to_dict("records") if path.is_file() else []
    for subject, about, keep in cases:
        if any(about.items() <= row.items() for row in known):
            continue
        row = {**about, "score": round(subject.retune(keep, about["rows"]), 5)}
        row["commit"] = git_commit()
        is_new = not path.is_file()
        table = pd.DataFrame([row])
        table.to_csv(path, mode="a", header=is_new, index=False, lineterminator="\n")
        print(row, flush=True)
