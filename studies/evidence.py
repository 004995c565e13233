"""``python -m studies.evidence``: a recipe on development and confirmation tasks.

    python -m studies.evidence --tasks sst2 cola --seeds 1
    python -m studies.evidence --recipe strong --tasks cr --seeds 1 2 --ratios 0.7 0.9
    python -m studies.evidence --recipe strong --ratios 0.834 --layers 1    # distilled first layer
    python -m studies.evidence --recipe strong --tasks cr --train-rows 100
    python -m studies.evidence --attribution random magnitude    # instead of the default
    python -m studies.evidence --recipe strong --freeze    # then commit results/strong.json
    python -m studies.evidence --recipe strong --table

Choices are made on the selection slices of development tasks. A confirmation task runs only where
the settings are those of the committed ``results/RECIPE.json``, and the work tree is clean. Every
job adds its row to ``results/RECIPE.csv``, with ``--layers`` to ``layers.csv``, with
``--train-rows`` to ``few.csv``, and with ``--attribution`` to ``controls.csv`` beside it. Data is
read from the folder in SKIP_EXP_DATA.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.cache.version import digest
from skip_exp.commands.compare import t_test
from skip_exp.config import compose
from skip_exp.config.together import job_config
from skip_exp.report import frame
from skip_exp.report.tables import pipe_rows
from skip_exp.utils.machine import git_commit

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CONF = HERE / "sweeps"
TITLES = {
    **{"sst2": "SST-2", "mrpc": "MRPC", "cola": "CoLA", "rte": "RTE", "banking77": "BANKING77"},
    **{"clinc150": "CLINC150", "irony": "irony", "cr": "CR", "mpqa": "MPQA"},
    "sst2_full": "SST-2, all rows",
}
DEVELOPMENT = ["sst2", "mrpc", "cola", "rte", "banking77", "cr"]
CONFIRMATION, APART = ["clinc150", "irony", "mpqa"], ["sst2_full"]
FILES = [
    "+task.files.train=${data.dir}/sst2_full/train.jsonl",
    "+task.files.validation=${data.dir}/sst2/validation.jsonl",
]
MORE = {
    "mpqa": ["data.deduplicate=true"],  # 749 of its 2,606 validation texts are train texts
    # Phrases of one sentence stay together.
    "sst2_full": ["+task=sst2", "task.name=sst2_full", *FILES, "task.group=sentence_id"],
}
# T5 would decode 77 label names for every text: twelve gigabytes a batch.
HEADS = {("t5_mini", "banking77"): ["backbone.readout=head"]}
RECIPES = {"skip": (0.52, 0.7, 0.9), "strong": (0.52, 0.7, 0.9, 0.95), "lora": (0.9,)}
AGAIN = {"lora": ["retune.enabled=true"]}  # a baseline that is cut and tuned again
BACKBONES = ("minilm", "roberta_mini", "t5_mini")
GROUPS = ("prompt", "tune", "attribution", "prune", "retune")  # what a recipe is
LAYERS = "config/prune.layers"
SIGN = "config/attribution.options.sign"  # tells the default from first_order
COLUMNS = (
    *("job_id", "task", "backbone", "seed", "ratio", LAYERS, "train_rows", "metric"),
    *("metric/dense", "metric/pruned", "metric/final", "select/dense", "select/final"),
    *("params/block_pruned", "params/all_pruned", "flops/ratio", "majority", "skill_bytes"),
    *("attribution", "seconds/total", "git_commit", "finished"),
)
SCORES = [name for name in COLUMNS if name.startswith(("metric/", "select/"))] + ["majority"]


def main() -> int:
    asked = parser().parse_args()
    if asked.table:
        rows = pd.read_csv(asked.rows or RESULTS / f"{asked.recipe}.csv")
        print(pipe_rows(table(rows[rows["backbone"] == asked.backbone])))
        return 0
    commit = git_commit()
    if commit is None or commit.endswith("-dirty"):
        sys.exit("a job needs a clean work tree: its row names the commit")
    if asked.freeze:
        settings = read_recipe(asked.recipe)
        frozen = {"commit": commit, "hash": digest(settings), "settings": settings}
        content = json.dumps(frozen, indent=1) + "\n"
        (RESULTS / f"{asked.recipe}.json").write_text(content, encoding="utf-8")
        return 0
    if set(asked.tasks) & set(CONFIRMATION):
        check_frozen(asked.recipe)
    name = name_rows(asked)
    for seed in asked.seeds:
        for task in asked.tasks:
            run(task, seed, asked, asked.out / name)
            add(asked.out / name, asked.rows or RESULTS / f"{name}.csv")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m studies.evidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--recipe", choices=RECIPES, default="skip")
    made.add_argument("--tasks", nargs="+", choices=TITLES, default=DEVELOPMENT)
    made.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    made.add_argument("--backbone", choices=BACKBONES, default="minilm")
    made.add_argument("--out", type=Path, default=Path("outputs/evidence"))
    made.add_argument("--rows", type=Path, help="file of the rows")
    made.add_argument("--ratios", nargs="+", type=float, help="fewer than all")
    made.add_argument("--layers", type=int, help="prune.layers of every job")
    made.add_argument("--train-rows", type=int, help="data.train_rows of every job")
    made.add_argument("--attribution", nargs="+", help="methods, instead of the default")
    made.add_argument("--freeze", action="store_true", help="write RECIPE.json")
    made.add_argument("--table", action="store_true", help="print the rows as a table")
    return made


def name_rows(asked: argparse.Namespace) -> str:
    """The name of the file that gets the rows."""
    if asked.attribution:
        return "controls" if asked.recipe == "skip" else f"controls_{asked.recipe}"
    return "layers" if asked.layers else "few" if asked.train_rows else asked.recipe


def read_recipe(name: str) -> dict[str, Any]:
    """The settings of a job that make its recipe, not how much is to be cut."""
    asked = ["+task=sst2", f"experiment={name}"]
    found = asdict(job_config(compose.compose_config("config", asked)))
    for goal in ("ratio", "within"):
        del found["prune"][goal]
    return {group: found[group] for group in GROUPS}


def check_frozen(name: str) -> None:
    """Refuse where the settings are not those that were committed before."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        sys.exit(f"a confirmation task needs a frozen recipe: --freeze, then commit {path.name}")
    frozen = json.loads(path.read_text(encoding="utf-8"))
    if frozen["hash"] != digest(read_recipe(name)):
        sys.exit(f"the recipe is not the one that was frozen at {frozen['commit']}")


def run(task: str, seed: int, asked: argparse.Namespace, out: Path) -> None:
    """One job per ratio; all share the dense model."""
    recipe, backbone = asked.recipe, asked.backbone
    limits = {"prune.layers": asked.layers, "data.train_rows": asked.train_rows}
    limits = {key: limit for key, limit in limits.items() if limit}
    own = [f"{key}={limit}" for key, limit in limits.items()]
    name = "-".join([backbone, task, *map(str, [seed, *limits.values()])])
    ratios = ",".join(map(str, asked.ratios or RECIPES[recipe]))
    argv = [
        *(sys.executable, "-m", "skip_exp", "--config-dir", str(CONF)),
        *MORE.get(task, []),
        *AGAIN.get(recipe, []),
        *([] if task in APART else [f"+task={task}"]),
        *(f"experiment={recipe}", f"backbone={backbone}", *HEADS.get((backbone, task), [])),
        *(f"seed={seed}", f"prune.ratio={ratios}", "-m"),
        *own,
        *([f"attribution={','.join(asked.attribution)}"] if asked.attribution else []),
        *("benchmark.enabled=false", "logger=none", "trainer.accelerator=cpu"),
        *(f"hydra.sweep.dir={out / name}", f"cache.dir={asked.out / recipe / 'cache'}"),
    ]
    subprocess.run(argv, check=True)


def add(out: Path, path: Path) -> None:
    """Put the jobs in ``out`` among the rows; scores in percent."""
    found = frame.load([out]).reindex(columns=[*COLUMNS, SIGN])
    found.loc[found.pop(SIGN) == "text", "attribution"] = "first_order"
    found[SCORES] = 100 * found[SCORES]
    names = {"job_id": "job", "git_commit": "commit", LAYERS: "layers"}
    found[LAYERS] = pd.to_numeric(found[LAYERS], errors="coerce")  # a frame has texts: None
    found = found.rename(columns=names).round(3).dropna(axis="columns", how="all")
    if path.is_file():
        found = pd.concat([pd.read_csv(path), found]).drop_duplicates("job", keep="first")
    found = found.sort_values(["backbone", "task", "seed", "ratio"])
    found.to_csv(path, index=False, lineterminator="\n")


def table(rows: pd.DataFrame) -> list[list[str]]:
    """Mean ± standard deviation over the seeds that have a ratio, and (their change from dense).

    A summary follows each group of tasks.

    Args:
        rows: of one backbone.
    """
    ratios = sorted(set(rows["ratio"]) - {0.0})
    lines = [["task", "seeds", "dense", *(f"{100 * ratio:.0f} %" for ratio in ratios)]]
    lines.append(["---"] * len(lines[0]))
    groups = {"development": DEVELOPMENT, "confirmation": CONFIRMATION, "": APART}
    for title, tasks in groups.items():
        means: list[list[float]] = []
        changes: list[list[float]] = []
        for task in (task for task in tasks if task in set(rows["task"])):
            part = rows[rows["task"] == task]
            dense = part.groupby("seed")["metric/dense"].first()
            cells = [TITLES[task], str(len(dense)), spread(dense)]
            means.append([dense.mean()])
            changes.append([])
            for ratio in ratios:
                jobs = part[part["ratio"] == ratio]
                score = jobs["metric/final"]
                change = (score - jobs["metric/dense"]).mean()
                means[-1].append(score.mean())
                changes[-1].append(change)
                cells.append("-" if jobs.empty else f"{spread(score)} ({signed(change)})")
            lines.append(cells)
        if len(means) > 1:
            lines += summary(title, pd.DataFrame(means), pd.DataFrame(changes))
    return lines


def summary(title: str, means: pd.DataFrame, changes: pd.DataFrame) -> list[list[str]]:
    """The mean over tasks, and its change from dense with a t-interval from three tasks on.

    A ratio that a task lacks has neither.

    Args:
        means: [tasks, dense and ratios].
        changes: from the dense models of the same seeds [tasks, ratios].
    """
    mean = [f"mean, {title}", ""]
    against = ["against dense", "", ""]
    for name in means:
        mean.append(f"{means[name].mean():.1f}" if means[name].notna().all() else "-")
    for ratio in changes:
        change = changes[ratio]
        if change.isna().any():
            against.append("-")
            continue
        against.append(signed(change.mean()))
        if len(change) > 2:
            low, high, _ = t_test(change)
            against[-1] += f" ({low:+.1f} to {high:+.1f})"
    return [mean, against]


def spread(scores: pd.Series) -> str:
    """Mean ± standard deviation over seeds, which one seed does not have."""
    deviation = f" ± {scores.std():.1f}" if len(scores) > 1 else ""
    return f"{scores.mean():.1f}{deviation}"


def signed(points: float) -> str:
    """A difference with its sign; 0 has a plus."""
    return f"{round(points, 1) + 0.0:+.1f}"


if __name__ == "__main__":
    sys.exit(main())
