"""``python -m studies.anatomy``: the parts of an anatomy that train.

    python -m studies.anatomy transfer outputs/evidence --out studies/results/transfer.csv
    python -m studies.anatomy scarcity outputs/evidence --rows 0 64 1024 99999 --ratios 0.7 0.9

transfer: with only the skill neurons of each task, every task of the same backbone and seed is
re-tuned on --rows rows; and with as many random neurons of each layer, one draw. scarcity: a task
is re-tuned on few rows, after a cut by the default attribution, Fisher, the paper's, magnitude, and
at random with as many neurons of each layer as the default, --draws times. The teacher has seen all
rows. Half of the selection slice chooses the epoch, the other half is scored: balanced accuracy, as
a fraction. Jobs and cache are those of finished runs. A row that is in --out already is not run
again.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.data.encode import draw_rows
from skip_exp.errors import SkipError
from skip_exp.job.job import phase_seed
from skip_exp.models.sites import Keep
from skip_exp.neurons.choice import drawn
from skip_exp.neurons.measure import CONTROL
from skip_exp.neurons.subjects import Subject, opened
from skip_exp.phases.prune import Pruned
from skip_exp.phases.retune import retune
from skip_exp.pruning.surgery import cut
from skip_exp.utils import console
from skip_exp.utils.machine import git_commit

METHODS = ("activation_gradient", "fisher", "paper", "magnitude", CONTROL)
KEYS = {
    "transfer": ["backbone", "task", "seed", "kept", "is_random", "ratio", "rows"],
    "scarcity": ["backbone", "task", "seed", "by", "draw", "ratio", "rows"],
}
Case = dict[str, Any]


def main() -> None:
    asked = parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    console.quiet_lightning()
    subjects = list(opened(asked.folders, 10**9))
    cases = (transfers if asked.part == "transfer" else scarce)(subjects, asked)
    for subject, case in cases:
        if is_known(asked.out, case, KEYS[asked.part]):
            continue
        score = retuned(subject, keep_of(subject, case, subjects), case["rows"])
        row = {**case, "score": round(score, 5), "commit": git_commit()}
        is_new = not asked.out.is_file()
        pd.DataFrame([row]).to_csv(
            asked.out, mode="a", header=is_new, index=False, lineterminator="\n"
        )
        print(row, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m studies.anatomy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("part", choices=KEYS)
    made.add_argument("folders", nargs="+", help="of finished jobs")
    made.add_argument("--rows", type=int, nargs="+", default=[1024], help="of re-tuning")
    made.add_argument("--ratios", type=float, nargs="+", default=[0.9])
    made.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, help="of scarcity")
    made.add_argument("--draws", type=int, default=3, help="random ones of scarcity")
    made.add_argument("--out", type=Path, required=True, help="CSV file that rows are added to")
    return made


def transfers(subjects: Sequence[Subject], asked: Any) -> Iterator[tuple[Subject, Case]]:
    """Subjects with every owner of neurons, and random neurons in their place."""
    for ratio, rows, subject in product(asked.ratios, asked.rows, subjects):
        for owner, is_random in product(subjects, (False, True)):
            if is_beside(owner, subject):
                how = {"kept": owner.task, "is_random": is_random, "ratio": ratio, "rows": rows}
                yield subject, {**subject.about, **how}


def scarce(subjects: Sequence[Subject], asked: Any) -> Iterator[tuple[Subject, Case]]:
    """Subjects with every method and number of rows."""
    for ratio, rows, subject, by in product(asked.ratios, asked.rows, subjects, asked.methods):
        rows = min(rows, len(subject.job.data.train))
        for draw in range(asked.draws if by == CONTROL else 1):
            how = {"by": by, "draw": draw, "ratio": ratio, "rows": rows}
            yield subject, {**subject.about, **how}


def is_beside(one: Subject, other: Subject) -> bool:
    """Whether two subjects are of the same backbone and seed."""
    return (one.backbone, one.seed) == (other.backbone, other.seed)


def keep_of(subject: Subject, case: Case, subjects: Sequence[Subject]) -> Keep:
    """The neurons that a case keeps."""
    by, name = case.get("by", CONTROL), case.get("kept", subject.task)
    if by != CONTROL:
        return subject.keep(case["ratio"], subject.relevance_by(by))
    owner = next(o for o in subjects if o.task == name and is_beside(o, subject))
    skill = owner.keep(case["ratio"])
    if not case.get("is_random", True):
        return skill
    draw = f" {case['draw']}" if case.get("draw") else ""
    return drawn(skill, owner.sizes, phase_seed(subject.seed, f"{subject.task} {name}{draw}"))


def retuned(subject: Subject, keep: Keep, rows: int) -> float:
    """Balanced accuracy after re-tuning what is kept on so many rows; 0: without re-tuning."""
    job, model = subject.job, cut(subject.dense, keep)
    if not job.cfg.retune.enabled:
        raise SkipError("retune.enabled=false: these jobs do not re-tune")
    select = job.data.select
    held = replace(subject, job=replace(job, data=replace(job.data, select=select[1::2])))
    if not rows:
        return held.balanced(model)
    data = draw_rows(replace(job.data, select=select[::2]), rows, phase_seed(job.cfg.seed, "rows"))
    # Every case on these rows has the same teacher; the jobs' own taught other rows.
    keys = job.keys | {"teacher": job.keys["teacher"] | {"drawn": rows}}
    job = replace(job, data=data, keys=keys)
    final, _ = retune(job, subject.dense, Pruned(model, keep), None)
    return held.balanced(final)


def is_known(path: Path, case: Case, keys: Sequence[str]) -> bool:
    """Whether the table has this row."""
    if not path.is_file():
        return False
    found = pd.read_csv(path)[[*keys]].to_dict("records")
    return {key: case[key] for key in keys} in found


if __name__ == "__main__":
    main()
