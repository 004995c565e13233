"""``skip-exp dashboard [FOLDER ...] --entity E [--project P] [--dry-run]``.

Saves two W&B workspaces and a report. Every panel reads the fields of ``result.json``, as the runs'
summaries carry them; the report's tables are computed here, from the results in the folders given.
Needs wandb-workspaces: ``pip install 'skip_exp[dashboard]'``.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import wandb

from skip_exp.config.names import METRICS
from skip_exp.errors import SkipError
from skip_exp.logger import key
from skip_exp.report import cells, compare, frame, tables

SCORES = ("metric/dense", "metric/pruned", "metric/final")
COLUMNS = (
    *("task", "backbone", "attribution", "ratio", "seed", "metric/name", *SCORES),
    *("params/block_pruned", "params/all_pruned", "latency/speedup", "latency/contended"),
    *("data_is_sample", "status", "error"),
)
PARALLEL = (
    *("ratio", "attribution", "seed", "params/all_pruned", "latency/speedup"),
    *("metric/dense", "metric/pruned", "metric/final"),
)
BARS = (*SCORES, "latency/speedup", "params/all_pruned")
FRONTS = {"latency/speedup": "speed-up", "params/all_pruned": "parameters pruned"}
FRONT = "Of each task, what nothing else beats in both; contended timings are not among it."


def _library() -> tuple[Any, Any]:
    """The modules of W&B's reports and workspaces."""
    try:
        import wandb_workspaces.reports.v2 as wr  # an extra
        import wandb_workspaces.workspaces as ws  # an extra
    except ImportError as error:
        advice = "pip install 'skip_exp[dashboard]'"
        raise SkipError(f"dashboard: wandb-workspaces is not installed: {advice}") from error
    return wr, ws


def workspaces(entity: str, project: str) -> list[Any]:
    """Two views: one point per run, and the runs of a sweep gathered.

    Raises:
        SkipError: the extra is not installed.
    """
    wr, ws = _library()

    def view(name: str, sections: list[Any], groupby: list[Any]) -> Any:
        columns = [f"summary:{column}" for column in COLUMNS]
        runs = ws.RunsetSettings(groupby=groupby, pinned_columns=columns)
        settings = ws.WorkspaceSettings(max_runs=100)
        return ws.Workspace(
            entity, project, name, sections, settings=settings, runset_settings=runs
        )

    def section(name: str, panels: list[Any]) -> Any:
        return ws.Section(name=name, panels=panels, is_open=True)

    runs = [section(name, panels) for name, panels in _panels(wr).items()]
    bars = [wr.BarPlot(title=name, metrics=[wr.SummaryMetric(name)]) for name in BARS]
    return [
        view("skip_exp: runs", runs, []),
        view("skip_exp: sweeps", [section("Mean over a sweep", bars)], [ws.Metric("Group")]),
    ]


def _panels(wr: Any) -> dict[str, list[Any]]:
    """Sections of the view by run: name to panels."""

    def against(x: str, title: str) -> Any:
        final = wr.SummaryMetric("metric/final")
        return wr.ScatterPlot(title=title, x=wr.SummaryMetric(x), y=final)

    def curves(phase: str, name: str) -> Any:
        return wr.LinePlot(title=f"{phase}: {name}", x=f"{phase}/step", y=[f"{phase}/{name}"])

    columns = [wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(name), name) for name in PARALLEL]
    fitted = ("train_loss", "select_loss", *(f"select_{name}" for name in METRICS))
    wide = wr.Layout(w=24, h=10)
    return {
        "Speed-up and size against metric": [
            against("latency/speedup", "final metric against speed-up"),
            against("params/block_pruned", "final metric against block parameters pruned"),
            against("params/all_pruned", "final metric against all parameters pruned"),
        ],
        "Ratio, method and seed": [
            wr.ParallelCoordinatesPlot(
                title="from settings to scores", columns=columns, layout=wide
            )
        ],
        "Curves per phase": [
            curves(phase, name) for phase in ("tune", "retune") for name in fitted
        ],
        "Neurons kept": [
            wr.MediaBrowser(title="by layer and site", media_keys=["keep"], layout=wide)
        ],
    }


def report(entity: str, project: str, folders: Sequence[str]) -> Any:
    """Tables of the results in the folders, and panels of the project's runs.

    Without folders it has the panels alone.

    Raises:
        SkipError: the extra is not installed; folders without a result.
    """
    wr, _ = _library()
    blocks = [wr.H1("Tables"), *map(wr.MarkdownBlock, sections(folders))] if folders else []
    columns = [f"summary:{column}" for column in COLUMNS]
    # Without a project it is that of the report; with one, the server would be asked for it here.
    runs = wr.Runset(name="runs", pinned_columns=columns)
    blocks += [wr.H1("Runs")]
    for name, panels in _panels(wr).items():
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=panels)]
    about = "Prompt tuning on what a task needs of a model: scores, sizes, speed."
    return wr.Report(project, entity, "skip_exp: results", about, blocks, width="fluid")


def sections(folders: Sequence[str]) -> list[str]:
    """Markdown: the results, their Pareto fronts, and attribution methods compared in pairs.

    Raises:
        SkipError: no result there.
    """
    loaded = frame.load(folders)
    gathered = cells.gather(loaded)
    text = tables.lines(gathered.cells)
    parts = ["## Results", *cells.warnings(gathered), tables.markdown(text), tables.CAPTION]
    parts += ["## Pareto fronts", FRONT]
    for measure, name in FRONTS.items():
        parts += [
            f"### Final score against {name}",
            tables.markdown(front(gathered.cells, measure)),
        ]
    return ["\n\n".join(parts), *comparisons(loaded)]


def front(every: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows of `tables.lines` that are on the Pareto front of their task, by task.

    ``measure``: the column that is to be large, beside the final score.
    """
    points = every.assign(x=every[f"{measure} mean"], y=every["metric/final mean"])
    points = points.dropna(subset=["x", "y"])
    parts = [cells.front(part) for _, part in points.groupby(["task", "sample"])]
    return tables.lines(pd.concat(parts)) if parts else pd.DataFrame()


def comparisons(loaded: pd.DataFrame) -> list[str]:
    """The attribution methods compared in pairs; nothing where the results have one only."""
    score = "metric/final"
    try:
        return [compare.page(compare.compare(loaded, "attribution"), "attribution", score)]
    except SkipError:
        return []


def specification(views: Sequence[Any]) -> str:
    """What would be sent to W&B, as JSON."""
    plain = [
        json.loads(v._to_model().model_dump_json(by_alias=True, exclude_none=True)) for v in views
    ]
    return json.dumps(plain, indent=1)


def save(views: Sequence[Any]) -> list[str]:
    """Save workspaces and report; returns their addresses.

    Raises:
        SkipError: no API key, or W&B refuses or cannot be reached.
    """
    if not key.has_key():  # W&B itself would ask for one
        raise SkipError("dashboard: needs an API key: set WANDB_API_KEY or run `wandb login`")
    try:
        return [view.save().url for view in views]
    except (wandb.errors.Error, OSError, ValueError) as error:
        raise SkipError(f"dashboard: W&B refused: {' '.join(str(error).split())}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="skip-exp dashboard", description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="results for the tables")
    parser.add_argument("--entity", help="W&B user or team; not needed with --dry-run")
    parser.add_argument("--project", default="skip_exp")
    parser.add_argument("--dry-run", action="store_true", help="only write the specification")
    parser.add_argument("--out", type=Path, default=Path("outputs/dashboard.json"), metavar="FILE")
    options = parser.parse_args(arguments)
    if not (options.entity or options.dry_run):
        parser.error("--entity: needed to save workspaces and report")
    place = options.entity or "ENTITY", options.project
    try:
        views = [*workspaces(*place), report(*place, options.folders)]
        if options.dry_run:
            _write(specification(views), options.out)
            print(f"written: {options.out}")
        else:
            print("\n".join(f"saved: {address}" for address in save(views)))
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _write(text: str, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SkipError(f"--out {out}: cannot be written: {error.strerror}") from error
