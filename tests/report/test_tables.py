import csv
import io

import pandas as pd
import pytest

from skip_exp.report import frame, tables
from skip_exp.report.cells import gather, warnings
from tests.helpers.fakes import failed, result


def gathered(*found):
    return gather(frame.ordered(frame.rows(found)))


def lines(*found):
    return tables.lines(gathered(*found).cells)


def test_row():
    one = result(
        metric={"name": "accuracy", "dense": 0.7, "pruned": 0.5, "final": 0.651},
        params={"block_pruned": 0.501, "all_pruned": 0.2},
        latency={"speedup": 1.949},
    )
    two = one | {"seed": 2, "metric": one["metric"] | {"final": 0.655}}
    assert lines(one, two).to_dict("records") == [
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


def test_validation_rows_that_are_train_rows_are_noted():
    found = [result(duplicates=749, seed=seed) for seed in (1, 2)]
    report = gathered(*found, result(ratio=0.7, duplicates=0), result(ratio=0.9))
    assert list(tables.lines(report.cells)["notes"]) == ["749 duplicates", "", ""]
    assert any("duplicates" in text for text in warnings(report))
    assert "notes" not in lines(result(duplicates=0))
    assert not warnings(gathered(result(duplicates=0)))


def test_what_is_no_plain_result_is_marked():
    loud, flops = {"speedup": 1.1, "contended": True}, {"ratio": 2.93}
    sample, chance, mixed = lines(
        result(ratio=0.1, data_is_sample=True),
        result(ratio=0.2, metric={"name": "accuracy", "dense": 0.5}, latency=loud, flops=flops),
        result(ratio=0.3, seed=1, latency=loud),
        result(ratio=0.3, seed=2, latency={"speedup": 2.0}),
        failed(ratio=0.3, seed=3),
    ).to_dict("records")
    assert (sample["data"], sample["notes"]) == ("*stand-in*", "stand-in rows")
    assert (chance["speed-up"], chance["notes"]) == ("~2.9x FLOPs", "at chance")
    assert mixed["speed-up"] == "2.00x"
    assert mixed["notes"] == "1 failed, 1 of 2 timings contended"


def test_markdown_and_latex():
    text = tables.markdown(lines(result(data_is_sample=True))).splitlines()
    assert text[0].startswith("| task | backbone | keep by | ratio | metric | dense |")
    assert text[1].startswith("| --- | --- | --- | ---: | --- | ---: |")
    assert "activation\\_gradient" in text[2] and "\\*stand-in\\*" in text[2]
    text = tables.latex(lines(result(seed=1), result(seed=2)), "a_b 5%", long=True)
    assert r"activation\_gradient" in text and r"$\pm$" in text and r"block \%" in text
    assert text.count(r"\begin{longtable}{lllrlrrrrrrrl}") == 1
    assert r"\caption{a\_b 5\%}" in text and text.endswith("\\end{longtable}\n")
    assert tables.markdown(pd.DataFrame()) == "No results."
    assert tables.latex(pd.DataFrame(), "") == "% no results\n"


def test_csv_is_unrounded():
    found = [result(seed=1), result(seed=2)]
    (row,) = csv.DictReader(io.StringIO(tables.to_csv(gathered(*found).cells)))
    mean = sum(each["metric"]["final"] for each in found) / 2
    assert float(row["metric/final mean"]) == pytest.approx(mean, abs=1e-12)
    assert (row["task"], row["ratio"], row["n"], row["sample"]) == ("sst2", "0.5", "2", "False")
    assert row["select/final mean"] == ""


def test_what_a_backbone_is_goes_with_it():
    """A BERT in RoBERTa's clothes never stands as a RoBERTa of its own, wherever it is shown."""
    note = "BERT-derived: minilm's weights"
    found = [result(backbone="roberta_mini", backbone_note=note), result()]
    assert list(lines(*found)["notes"]) == ["", "BERT-derived"]
    assert "roberta_mini: BERT-derived: minilm's weights." in warnings(gathered(*found))
    assert "BERT-derived" in tables.to_csv(gathered(*found).cells)
