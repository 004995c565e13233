"""``python -m studies.pages``: docs/results.md, studies/few.md and their pictures, from rows.

The sentences are those of the templates beside this file. README's table is printed.
"""

from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from skip_exp.report.tables import pipe_rows
from studies import few, figures, frontier
from studies.evidence import RESULTS, signed, table
from studies.figures import CUTS, average, lose, read_pairs, read_rows

ROOT = Path(__file__).parents[1]
FOUR = ["sst2", "cr", "banking77", "rte"]  # of the target that gates were made for
TRAINED = ("TF-IDF, linear SVM", "uncut, fp32", "uncut, int8")
NEIGHBOURS = ("sst2", "cola", "mrpc", "rte")


def join(numbers: list[float]) -> str:
    """Signed numbers as a list in a sentence.

    Example:
        >>> join([0.44, 0.0, -1.5])
        '+0.4, +0.0 and -1.5'
    """
    texts = [signed(number) for number in numbers]
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def describe_skip() -> dict[str, Any]:
    """What cuts change in ``skip``, and what its gates add."""
    rows = read_rows("skip")
    counts = pd.read_csv(RESULTS / "int8.csv").query("split == 'validation'")
    errors = []
    for task in FOUR[:3]:
        score = average(rows, [task], 0)
        count = counts[counts["task"] == task]["rows"].iloc[0]
        errors.append(f"{(score * (100 - score) / count) ** 0.5:.1f}")
    shares = rows.groupby("ratio")["params/all_pruned"].first()
    majority = rows.groupby("task")["majority"].first()
    sst2 = rows.query("task == 'sst2' and ratio == 0.7")["skill_bytes"]
    return {
        "skip": pipe_rows(table(rows)),
        "skip_four": join([average(rows, FOUR, cut) for cut in CUTS]),
        "skip_cola": join([average(rows, ["cola"], cut) for cut in CUTS]),
        "shares": ", ".join(f"{100 * share:.0f}" for share in shares) + " %",
        "errors": ", ".join(errors),
        "majority_mrpc": f"{majority['mrpc']:.1f}",
        "majority_rte": f"{majority['rte']:.1f}",
        "bytes": f"{sst2.mean() / 1000:.0f}",
        "gates": figures.gain("skip", "prompt"),
    }


def describe_controls() -> dict[str, Any]:
    """What random neurons change, in both recipes."""
    parts: dict[str, Any] = {}
    for recipe in figures.PAIRS:
        pairs = read_pairs(recipe)
        parts[f"control_{recipe}"] = {
            "text": describe_loss(pairs),
            "without": describe_loss(pairs.query("task != 'mrpc'")),
            "table": pipe_rows(figures.compare(pairs)),
        }
    parts["methods"] = pipe_rows(figures.compare_methods())
    return parts


def describe_loss(pairs: pd.DataFrame) -> str:
    """What random neurons change in the mean over tasks, with intervals."""
    return f"{lose(pairs, 0.7)} points at 70 % and {lose(pairs, 0.9)} at 90 %"


def describe_strong() -> dict[str, Any]:
    """What cuts change in ``strong``, with the contrastive term; others' cuts."""
    rows = read_rows("strong")
    tasks = figures.list_tasks(rows)
    relative = []
    for recipe, part in (("skip", read_rows("skip")), ("strong", rows)):
        cells = [f"`{recipe}`", "90 % of block weights"]
        for task in NEIGHBOURS:
            change = average(part, [task], 0.9) / average(part, [task], 0)
            cells.append("" if pd.isna(change) else signed(100 * change))
        relative.append(f"| {' | '.join(cells)} |")
    return {
        "strong": pipe_rows(table(rows)),
        "strong_mean": join([average(rows, tasks, cut) for cut in CUTS[1:]]),
        "strong_count": len(tasks),
        "contrast": figures.gain("contrast", "strong_before"),
        "relative": "\n".join(relative),
    }


def describe_speed() -> dict[str, Any]:
    """Cuts beside whole layers, one text, and what 8 bits cost."""
    rows = pd.read_csv(RESULTS / "int8.csv").query("recipe == 'strong' and split == 'validation'")
    losses = rows["before"] - rows["after"]
    return {
        "frontier": pipe_rows(frontier.table()),
        "lead_one": frontier.compare("90 % cut, 3 layers"),
        "lead_two": frontier.compare("80 % cut"),
        "fast": frontier.speed_up("90 % cut"),
        "fast_layers": frontier.speed_up("90 % cut, 3 layers"),
        "rounding_mean": f"{losses.mean():.1f}",
        "rounding_most": f"{losses.max():.1f}",
        "rounding_count": len(losses),
    }


def describe_few() -> dict[str, Any]:
    """What cuts change with few rows, and how far the uncut model is ahead of other methods."""
    uncut = "`strong`, uncut"
    pairs = {
        "cost": ("70 % cut", uncut),
        "head": (uncut, "linear head"),
        "setfit": (uncut, "SetFit"),
    }
    numbers: dict[str, Any] = {
        "table": pipe_rows(few.table()),
        "shots": pipe_rows(few.list_shots()),
        "ms": [f"{ms:.1f}" for ms in frontier.read_times()["EPYC"][["uncut", "70 % cut"]]],
    }
    for name, pair in pairs.items():
        numbers[name] = {count: few.lead(*pair, count) for count in few.COUNTS}
    return numbers


def render(page: str) -> str:
    """A page of PAGES."""
    name = f"{Path(page).name}.jinja"
    source = Path(__file__).with_name(name).read_text(encoding="utf-8")
    template = jinja2.Template(source, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    numbers = [describe() for describe in PAGES[page]]
    return template.render({name: text for part in numbers for name, text in part.items()})


PAGES = {
    "docs/results.md": (describe_skip, describe_controls, describe_strong, describe_speed),
    "studies/few.md": (describe_few,),
}


def list_train() -> list[list[str]]:
    """README's lines of the table that ends ``train --within 3``."""
    rows = pd.read_csv(RESULTS / "tickets.csv")
    lines = [["model", "validation (95 %)", "ms (95th percentile)", "MB"], ["---"] * 4]
    for row in rows[rows["model"].isin(TRAINED) | rows["chosen"]].to_dict("records"):
        score, low, high = (f"{100 * row[name]:.1f}" for name in ("validation", "low", "high"))
        model = f"{row['model']} (chosen)" if row["chosen"] else row["model"]
        speed = f"{row['ms']:.2f} ({row['ms_p95']:.2f})"
        lines.append([model, f"{score} ({low} to {high})", speed, f"{row['mb']:.1f}"])
    return lines


if __name__ == "__main__":
    for path in PAGES:
        (ROOT / path).write_text(render(path), encoding="utf-8")
    figures.draw().savefig(ROOT / "docs/scores.png", dpi=150)
    frontier.draw().savefig(ROOT / "docs/frontier.png", dpi=150)
    few.draw().savefig(ROOT / "studies/pictures/few.png", dpi=150)
    print(pipe_rows(list_train()))
    print(pipe_rows(figures.summarize()))
