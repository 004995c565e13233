"""The final model's answers in W&B: mistakes, confusions, and its point of score and speed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import wandb

from skip_exp import results

MOST_ROWS = 200  # rows of a table
FEW_LABELS = 12  # whose confusion matrix is drawn


def log_answers(
    run: wandb.Run, result: Mapping[str, Any], folder: Path, texts: Sequence[str] | None
) -> None:
    """Log tables of the final model: confusions, mistakes, and its point of score and speed."""
    given = pd.read_csv(folder / results.PREDICTIONS)
    labels = result["config"]["task"]["labels"]
    tables = {
        "confusions": count_confusions(given, labels),
        "mistakes": list_mistakes(given, labels, texts),
        "score_and_speed": score_against_speed(result),
    }
    logged: dict[str, Any] = {}
    for name, (columns, rows) in tables.items():
        if rows:
            logged[name] = wandb.Table(columns=[*columns], data=rows)
    if point := logged.get("score_and_speed"):
        _, x, y = point.columns
        logged["score_and_speed"] = wandb.plot.scatter(point, x, y, title=f"{y} against speed-up")
    if len(labels) <= FEW_LABELS:
        cells = {"y_true": given["label"].tolist(), "preds": given["predicted"].tolist()}
        logged["confusion_matrix"] = wandb.plot.confusion_matrix(class_names=labels, **cells)
    run.log(logged)


def list_mistakes(
    answers: pd.DataFrame, labels: Sequence[str], texts: Sequence[str] | None = None
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the wrong answers, the most certain first.

    Args:
        answers: ``predictions.csv.gz``: label and predicted (indices), probability; a row per row
            of the validation split, in its order.
        texts: of those rows; None leaves them out.
    """
    wrong = answers[answers["label"] != answers["predicted"]]
    wrong = wrong.sort_values("probability", ascending=False, kind="stable").head(MOST_ROWS)
    columns = ["row", "label", "predicted", "probability"]
    rows = []
    for number, label, predicted, probability in wrong[columns[1:]].itertuples():
        row = [number + 1, labels[label], labels[predicted], probability]
        rows.append(row if texts is None else [*row, texts[number]])
    return columns if texts is None else [*columns, "text"], rows


def count_confusions(
    answers: pd.DataFrame, labels: Sequence[str]
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the confusion matrix: cells that are not 0, the largest first."""
    counts = answers.groupby(["label", "predicted"]).size()
    counts = counts.sort_values(ascending=False, kind="stable").head(MOST_ROWS)
    rows = [[labels[label], labels[answer], count] for (label, answer), count in counts.items()]
    return ["label", "predicted", "rows"], rows


def score_against_speed(result: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the dense and the final model: speed-up and score of the main metric.

    No rows without a timing, or with one under other load.
    """
    columns = ["model", "speed-up", result["metric"]["name"] or "score"]
    speedup = results.flatten(result).get("latency/speedup")
    if speedup is None:
        return columns, []
    dense, final = result["metric"]["dense"], result["metric"]["final"]
    return columns, [["dense", 1.0, dense], ["final", speedup, final]]
