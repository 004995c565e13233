"""The study of several labels per text: its table."""

import pandas as pd

from skip_exp.report.tables import pipe_rows
from studies import multilabel


def test_a_model_is_a_row_of_means() -> None:
    def row(model: str, seed: int, score: float) -> dict[str, object]:
        return {"model": model, "seed": seed} | dict.fromkeys(multilabel.MULTILABEL_METRICS, score)

    models = (multilabel.LOGISTIC, multilabel.DENSE, "52 % removed", "90 % removed")
    made = [row(model, seed, 10.0 * i + seed) for i, model in enumerate(models) for seed in (1, 3)]
    _, _, *rows = multilabel.table(pd.DataFrame(made))
    assert [each[0] for each in rows] == [*models]
    assert rows[1][1:] == ["12.0 ± 1.4"] * 3


def test_the_page_shows_the_rows_of_the_file() -> None:
    page = (multilabel.RESULTS.parents[2] / "docs/results.md").read_text(encoding="utf-8")
    assert pipe_rows(multilabel.table(pd.read_csv(multilabel.RESULTS))) in page
