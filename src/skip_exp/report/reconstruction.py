"""Layout of the reconstructed table: backbones and ratios down, tasks across."""

from collections.abc import Sequence
from dataclasses import dataclass

from skip_exp.report.cells import Cell, Stat, at_chance, cells, stat
from skip_exp.report.grid import Grid, is_current
from skip_exp.report.tables import markdown, spread, tex
from skip_exp.report.text import Found, percent

HEAD = ("backbone", "ratio", "block %", "all %", "speed-up")
DENSE = "dense"
REHEARSAL = "Rehearsal on generated data: no figure here says anything about the method"
RECONSTRUCTED = "Table 2, reconstructed"


@dataclass(frozen=True)
class Reconstruction:
    """What the table shows."""

    grid: Grid
    answers: Sequence[Found]  # the results that belong to the grid
    profile: str
    why: str  # this profile
    rehearsal: bool

    @property
    def title(self) -> str:
        return REHEARSAL if self.rehearsal else RECONSTRUCTED


Cells = dict[tuple[str, str, float], Cell]  # by backbone, task, ratio


def rows(table: Reconstruction) -> list[dict[str, str]]:
    """A dense row per backbone, then one per ratio; cells without a result say so."""
    grid, by_place = table.grid, {}
    for cell in cells(table.answers):
        by_place[cell.setting.backbone, cell.setting.task, cell.setting.ratio] = cell
    heads = {task: f"{task} ({grid.metric(task)})" for task in grid.tasks}
    lines = []
    for backbone in grid.backbones:
        line = dict(zip(HEAD, (backbone, DENSE, "0.0", "0.0", "1.00x"), strict=True))
        lines.append(line | {heads[t]: _dense(grid, by_place, backbone, t) for t in grid.tasks})
        for ratio in grid.ratios:
            mine = [by_place.get((backbone, task, ratio)) for task in grid.tasks]
            there = [cell for cell in mine if cell is not None]
            pruned = [_fraction(there, name) for name in ("block_pruned", "all_pruned")]
            values = (backbone, f"{ratio:g}", *pruned, _speed(there))
            line = dict(zip(HEAD, values, strict=True))
            scores = [_score(cell, len(grid.seeds)) for cell in mine]
            lines.append(line | dict(zip(heads.values(), scores, strict=True)))
    return lines


def _dense(grid: Grid, by_place: Cells, backbone: str, task: str) -> str:
    """Dense is the same for every ratio of a seed: it counts once."""
    mine = [by_place.get((backbone, task, ratio)) for ratio in grid.ratios]
    runs = {run["seed"]: run for cell in mine if cell is not None for run in cell.runs}
    if not runs:
        return "missing"
    value = stat(run["metric"].get("dense") for run in runs.values())
    chance = any(at_chance(cell) for cell in mine if cell is not None)
    return _marked(value, chance, len(runs), len(grid.seeds))


def _score(cell: Cell | None, seeds: int) -> str:
    if cell is None:
        return "missing"
    if not cell.runs:
        return "failed"
    return _marked(cell.stat("metric", "final"), bool(at_chance(cell)), len(cell.runs), seeds)


def _marked(value: Stat | None, chance: bool, done: int, seeds: int) -> str:
    marks = ["at chance"] * chance + [f"{done} of {seeds} seeds"] * (done < seeds)
    return spread(value) + (f" ({', '.join(marks)})" if marks else "")


def _fraction(there: Sequence[Cell], name: str) -> str:
    value = stat((run.get("params") or {}).get(name) for cell in there for run in cell.runs)
    return percent(value.mean) if value else "-"


def _speed(there: Sequence[Cell]) -> str:
    """Mean over tasks, and their range: what is kept differs, so does its speed."""
    means = [value.mean for cell in there if (value := cell.speedup())]
    if not means:
        return "contended" if any(cell.contended for cell in there) else "-"
    text = f"{sum(means) / len(means):.2f}x"
    return text if len(means) == 1 else f"{text} ({min(means):.2f} to {max(means):.2f})"


def caption(table: Reconstruction) -> str:
    """What the reader must know; a rehearsal never carries the name of the paper's table."""
    grid, left = table.grid, len(table.grid.remaining(table.answers))
    said = [f"{table.title}."]
    if not table.rehearsal:
        said.append(
            "The paper's own table was not at hand: backbones, tasks and ratios are set by what is"
            " known of it, so this is a reconstruction, not a copy."
        )
    said += [
        f"Profile {table.profile}: {table.why}.",
        f"Scores times 100 on the validation split, mean ± standard deviation over"
        f" {len(grid.seeds)} seeds: dense after prompt tuning with nothing removed, the other rows"
        " after pruning and tuning again. ratio: fraction of the block parameters to remove;"
        " block %, all %: removed of the block parameters and of all. On BERT-base ratio 0.67 is"
        ' the row of "52 % of all parameters".',
        _timing(table.answers),
        "at chance: dense is not above the majority class by two standard errors.",
        *backbone_notes(table.answers),
        provenance(table.answers),
    ]
    old = sum(each["status"] == "done" and not is_current(each) for each in table.answers)
    if old:
        said.append(f"OUTDATED: {old} results come from another version of the code.")
    if left:
        new = " of this version of the code" if old else ""
        said.append(f"INCOMPLETE: {left} of {len(grid.jobs)} jobs have no result{new} yet.")
    return " ".join(part for part in said if part)


def _timing(answers: Sequence[Found]) -> str:
    latencies = [each["latency"] for each in answers if each.get("latency")]
    timed = [each for each in latencies if not each.get("contended")]
    settings = {
        f"batch {each.get('batch')}, {each.get('seq_len')} tokens, {each.get('dtype')},"
        f" {each.get('device')}, {each.get('threads')} threads"
        for each in timed
    }
    text = "Speed-up: final against dense, mean over tasks (range)"
    return f"{text}; measured at {'; '.join(sorted(settings))}." if settings else ""


def backbone_notes(answers: Sequence[Found]) -> list[str]:
    """What a reader must know of the backbones, a sentence each."""
    told = {(a["backbone"], a["backbone_note"]) for a in answers if a.get("backbone_note")}
    return [f"{backbone}: {note}." for backbone, note in sorted(told)]


def provenance(answers: Sequence[Found]) -> str:
    """Data, torch and commit of the finished results."""
    done = [each for each in answers if each["status"] == "done"]
    sources = sorted({str(each.get("data_source")).split(":")[0] for each in done})
    torch = sorted({(each.get("versions") or {}).get("torch") or "?" for each in done})
    commits = sorted({(each.get("git_commit") or "unknown")[:12] for each in done})
    if not done:
        return ""
    return f"Data: {', '.join(sources)}; torch {', '.join(torch)}; commit {', '.join(commits)}."


def to_markdown(table: Reconstruction) -> str:
    return f"# {table.title}\n\n{markdown(rows(table))}\n\n{caption(table)}\n"


def to_latex(table: Reconstruction) -> str:
    """A ``table`` environment (package: booktabs), a rule between backbones."""
    lines = rows(table)
    names = list(lines[0])
    body = []
    for index, line in enumerate(lines):
        if index and line["ratio"] == DENSE:
            body.append(r"\midrule")
        body.append(" & ".join(map(tex, line.values())) + r" \\")
    align = "l" + "r" * (len(names) - 1)
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{tex(caption(table))}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            " & ".join(map(tex, names)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
