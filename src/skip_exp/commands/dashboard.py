"""Save two Weights & Biases workspaces: panels of this project's runs.

Example:

    skip-exp dashboard --entity my-team --project skip_exp

Panels read the runs' summaries, which have the fields of result.json. For tables, see skip-exp
report. Needs wandb-workspaces: pip install 'skip_exp[dashboard]'.
"""

from collections.abc import Sequence
from typing import Any

import wandb

from skip_exp.commands.line import one_line_errors, parser
from skip_exp.config.checks import STATES
from skip_exp.errors import SkipError, one_line
from skip_exp.logger.runs import find_project

SCORES = [f"metric/{state}" for state in STATES]
COLUMNS = [
    "task", "backbone", "attribution", "ratio", "seed", "metric/name", *SCORES,
    "params/block_pruned", "params/all_pruned", "latency/speedup", "latency/contended",
    "data_is_sample", "status", "error",
]  # fmt: skip
SHOWN = [f"summary:{column}" for column in COLUMNS]
PARALLEL = ["ratio", "attribution", "seed", "params/all_pruned", "latency/speedup", *SCORES]
BARS = [*SCORES, "latency/speedup", "params/all_pruned"]


def build_workspaces(entity: str, project: str) -> list[Any]:
    """Two views: one point per run, and the runs of a sweep gathered.

    Raises:
        SkipError: the extra is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr  # an extra
        import wandb_workspaces.workspaces as ws  # an extra
    except ImportError as error:
        raise SkipError(
            "dashboard: wandb-workspaces is not installed: pip install 'skip_exp[dashboard]'"
        ) from error

    def view(name: str, sections: dict[str, list[Any]], groupby: list[Any]) -> Any:
        shown = [ws.Section(name=title, panels=x, is_open=True) for title, x in sections.items()]
        runs = ws.RunsetSettings(groupby=groupby, pinned_columns=SHOWN)
        settings = ws.WorkspaceSettings(max_runs=100)
        return ws.Workspace(
            entity,
            project,
            name,
            shown,
            settings=settings,
            runset_settings=runs,
            auto_generate_panels=True,  # of curves and pictures
        )

    return [
        view("skip_exp: runs", _panels(wr), []),
        view("skip_exp: sweeps", {"Mean over a sweep": _bars(wr)}, [ws.Metric("Group")]),
    ]


def _bars(wr: Any) -> list[Any]:
    return [wr.BarPlot(title=name, metrics=[wr.SummaryMetric(name)]) for name in BARS]


def _panels(wr: Any) -> dict[str, list[Any]]:
    """Sections of the view by run: name to panels."""

    def against(x: str, title: str) -> Any:
        final = wr.SummaryMetric("metric/final")
        return wr.ScatterPlot(title=title, x=wr.SummaryMetric(x), y=final)

    column = wr.ParallelCoordinatesPlotColumn
    columns = [column(wr.SummaryMetric(name), name) for name in PARALLEL]
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
    }


def save_views(views: Sequence[Any]) -> list[str]:
    """Save workspaces; returns their addresses.

    Raises:
        SkipError: no API key, or W&B refuses or cannot be reached.
    """
    if not wandb.login(prompt=False, verify=False):  # W&B itself would ask for a key
        raise SkipError("dashboard: needs an API key: set WANDB_API_KEY or run `wandb login`")
    try:
        return [view.save().url for view in views]
    except (wandb.errors.Error, OSError, ValueError) as error:
        raise SkipError(f"dashboard: W&B refused: {one_line(error)}") from error


@one_line_errors(1)
def main(arguments: Sequence[str] | None = None) -> int:
    line = parser("dashboard", __doc__)
    line.add_argument("--entity", required=True, help="W&B user or team")
    line.add_argument("--project", help="W&B project; else WANDB_PROJECT or skip_exp")
    options = line.parse_intermixed_args(arguments)
    views = build_workspaces(options.entity, find_project(options.project))
    for address in save_views(views):
        print(f"saved: {address}")
    return 0
