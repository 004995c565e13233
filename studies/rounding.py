"""``python -m studies.rounding``: scores in 8 bits and in fp32, on both splits of finished jobs.

python -m studies.rounding outputs/evidence/strong/*/*/skill --rows studies/results/int8.csv
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from skip_exp import OnnxSkill, Skill
from skip_exp.skill.export.onnx.write import compare_rounded
from skip_exp.skill.files import read_job_rows
from skip_exp.utils.machine import git_commit


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m studies.rounding", description=__doc__)
    parser.add_argument("skills", nargs="+", type=Path)
    parser.add_argument("--rows", type=Path, required=True)
    asked = parser.parse_args()
    for folder in asked.skills:
        add(folder, asked.rows)
    return 0


def add(folder: Path, path: Path) -> None:
    """A row for each split of a skill's job, in percent."""
    skill = Skill.load(folder)
    job, rows = skill.result, read_job_rows(skill.about, folder)
    about = {name: job[name] for name in ("job_id", "task", "seed", "ratio")}
    about["layers"] = job["config"]["prune"]["layers"]
    about["recipe"] = "strong" if job["config"]["prompt"]["kind"] == "none" else "skip"
    with TemporaryDirectory() as temporary:
        rounded = OnnxSkill.load(
            skill.export(f"{temporary}/int8", "onnx", int8=True, is_judged=True)
        )
        for split in ("select", "validation"):
            found = asdict(compare_rounded(skill, rounded, rows.spec, getattr(rows, split)))
            found |= {name: round(100 * found[name], 2) for name in ("before", "after", "equal")}
            row = about | {"split": split} | found | {"commit": git_commit()}
            pd.DataFrame([row]).round({"drift": 4}).to_csv(
                path, mode="a", header=not path.is_file(), index=False
            )


if __name__ == "__main__":
    sys.exit(main())
