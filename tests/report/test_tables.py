import csv
import io

import pytest

from skip_exp.report import tables, text
from skip_exp.report.cells import Stat, cells
from skip_exp.report.page import warnings
from tests.helpers.fakes import failed, result


def lines(*found):
    return tables.rows(cells(found))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (Stat(0.8181, None, 1), "81.8"), (Stat(0.8181, 0.0026, 3), "81.8 ± 0.3")],
)
def test_spread(value, text):
    assert tables.spread(value) == text


def test_row():
    one = result(
        metric={"name": "accuracy", "dense": 0.7, "pruned": 0.5, "final": 0.651},
        params={"block_pruned": 0.501, "all_pruned": 0.2},
        latency={"speedup": 1.949},
    )
    two = one | {"seed": 2, "metric": one["metric"] | {"final": 0.655}}
    assert lines(one, two) == [
        {
            "task": "sst2",
            "backbone": "minilm",
            "keep by": "activation_gradient",
            "ratio": "0.5",
            "metric": "accuracy",
            "dense": "70.0 ± 0.0",
            "pruned": "50.0 ± 0.0",
            "final": "65.3 ± 0.3",
            "block %": "50.1",
            "all %": "20.0",
            "speed-up": "1.95 ± 0.00x",
            "n": "2",
            "data": "local",
        }
    ]


def test_what_is_no_plain_result_is_marked():
    loud = {"speedup": 1.1, "contended": True}
    sample, chance, mixed = lines(
        result(ratio=0.1, data_is_sample=True),
        result(ratio=0.2, metric={"name": "accuracy", "dense": 0.5}, latency=loud),
        result(ratio=0.3, seed=1, latency=loud),
        result(ratio=0.3, seed=2, latency={"speedup": 2.0}),
        failed(ratio=0.3, seed=3),
    )
    assert (sample["data"], sample["notes"]) == ("*sample*", "sample data")
    assert (chance["speed-up"], chance["notes"]) == ("contended", "at chance")
    assert mixed["speed-up"] == "2.00x"
    assert mixed["notes"] == "1 failed, 1 of 2 timings contended"


def test_markdown():
    text = tables.markdown(lines(result(data_is_sample=True))).splitlines()
    assert text[0].startswith("| task | backbone | keep by | ratio | metric | dense |")
    assert text[1].startswith("| --- | --- | --- | ---: | --- | ---: |")
    assert "activation\\_gradient" in text[2] and "\\*sample\\*" in text[2]
    assert tables.markdown([]) == "No results."


def test_latex():
    text = tables.latex(lines(result(seed=1), result(seed=2)))
    assert r"activation\_gradient" in text and r"$\pm$" in text and r"block \%" in text
    assert text.count(r"\begin{longtable}{lllrlrrrrrrrl}") == 1
    assert r"\caption" in text and text.endswith(r"\end{longtable}")


def test_tex_escapes():
    assert tables.tex(r"50% a_b \x") == r"50\% a\_b \textbackslash{}x"


def test_csv_is_unrounded():
    found = [result(seed=1), result(seed=2)]
    (row,) = csv.DictReader(io.StringIO(tables.to_csv(cells(found))))
    mean = sum(each["metric"]["final"] for each in found) / 2
    assert float(row["metric/final mean"]) == pytest.approx(mean, abs=1e-12)
    assert (row["task"], row["ratio"], row["n"], row["is_sample"]) == ("sst2", "0.5", "2", "False")
    assert row["select/final mean"] == ""


def test_failures_and_gaps_in_words():
    assert tables.describe_failure(failed(seed=3)) == (
        "sst2, minilm, activation_gradient, ratio 0.5, seed 3: prune.ratio=0.9: too much"
    )
    (cell,) = cells([result()])
    assert (
        tables.describe(cell.setting, 7) == "sst2, minilm, activation_gradient, ratio 0.5, seed 7"
    )


def test_what_a_backbone_is_goes_with_it():
    """A BERT in RoBERTa's clothes never stands as a RoBERTa of its own, wherever it is shown."""
    note = "BERT-derived: minilm's weights"
    found = [result(backbone="minilm_roberta", backbone_note=note), result()]
    named, plain = (tables.row(cell) for cell in reversed(cells(found)))
    assert (named["notes"], plain["notes"]) == ("BERT-derived", "")
    assert text.note(found[0]) == "BERT-derived"
    assert text.note(found[0] | {"reused": True}) == "BERT-derived, reused"
    assert "minilm_roberta: BERT-derived: minilm's weights." in warnings(cells(found))
    assert "BERT-derived" in tables.to_csv(cells(found))


def test_a_ratio_that_was_looked_for_is_no_number():
    config = {"prune": {"ratio": "auto", "max_drop": 1.0}}
    found = cells([result(ratio=0.55, seed=1, config=config), result(seed=2, config=config)])
    (line,) = tables.rows(found)
    assert (line["ratio"], line["variant"]) == ("found", "prune.max_drop=1.0")
    (stored,) = csv.DictReader(io.StringIO(tables.to_csv(found)))
    assert stored["ratio"] == "found"
    assert float(stored["params/block_pruned mean"]) == pytest.approx(0.525)
    assert "(prune.max_drop=1.0), ratio found, seed 3" in tables.describe(found[0].setting, 3)
