import csv
import io
import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
from rich.console import Console

from skip_exp.report import figures, tables
from skip_exp.report.cells import gather, warnings
from skip_exp.results import Result
from tests.helpers.fakes import frame_of, result

NOTE = "BERT-derived: minilm's weights"


def gathered(*found):
    return gather(frame_of(found))


def lines(*found):
    return tables.lines(gathered(*found).cells)


def shown(*found, width=200):
    """Title, head and rows of the table of jobs."""
    return printed(width, tables.show_jobs, list(map(Result.model_validate, found)))


def printed(width, show, *given):
    """The lines that ``show`` prints on a terminal of this width."""
    screen = Console(width=width)
    with pytest.MonkeyPatch.context() as patch, screen.capture() as text:
        patch.setattr(tables, "open_screen", lambda: screen)
        show(*given)
    return text.get().splitlines()


def scored(**fields):
    """A job with round numbers."""
    scores = {"name": "accuracy", "dense": 0.6, "pruned": 0.55, "final": 0.5949}
    given = {"metric": scores, "metrics": {}, "latency": {"speedup": 1.949, "contended": False}}
    return result(
        "rte",
        **given | {"params": {"block_pruned": 0.5}, "n_eval": 400, "skill_bytes": 227_400} | fields,
    )


def test_a_line_of_a_report():
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
            "dense": "70.0 ± 0.0",
            "pruned": "50.0 ± 0.0",
            "accuracy": "65.3 ± 0.3",
            "cut %": "50.1",
            "speed-up": "1.95 ± 0.00x",
            "data": "local",
            "n": "2",
        }
    ]


def test_tasks_with_different_metrics_share_a_column():
    text = lines(result("sst2"), result("cola")).set_index("task")
    assert list(text["metric"]) == ["matthews", "accuracy"]
    assert "matthews" not in text and not any(text["final"] == "-")


def test_what_is_no_plain_result_is_marked():
    loud = {"speedup": 1.1, "contended": True}
    found = [
        result(ratio=0.1, data_is_sample=True),
        result(ratio=0.2, metric={"name": "accuracy", "dense": 0.5}, latency=loud),
        result(ratio=0.3, seed=1, latency=loud),
        result(ratio=0.3, seed=2, latency={"speedup": 2.0}),
        result(ratio=0.4, duplicates=749),
        result(backbone="roberta_mini", backbone_note=NOTE),
    ]
    sample, chance, mixed, duplicates, derived = lines(*found).to_dict("records")
    assert (sample["data"], sample["notes"]) == ("stand-in", "stand-in rows")
    assert (chance["speed-up"], chance["notes"]) == ("-", "at chance, contended")
    assert mixed["speed-up"] == "2.00x"
    assert mixed["notes"] == "contended"
    assert (duplicates["notes"], derived["notes"]) == ("749 duplicates", "BERT-derived")
    report = gathered(*found)
    assert f"roberta_mini: {NOTE}." in warnings(report) and len(warnings(report)) == 5
    assert "BERT-derived" in tables.to_csv(report.cells)
    plain = result(duplicates=0)
    assert "notes" not in lines(plain) and not warnings(gathered(plain))


def test_markdown_and_latex_escape_what_they_show():
    rows = lines(result(seed=1), result(seed=2))
    assert "activation\\_gradient" in tables.markdown(rows)
    text = tables.latex(rows, "a_b 5%", long=True)
    assert r"activation\_gradient" in text and r"$\pm$" in text and r"cut \%" in text
    assert r"\caption{a\_b 5\%}" in text and text.endswith("\\end{longtable}\n")
    assert tables.markdown(pd.DataFrame()) == "No results."
    assert tables.latex(pd.DataFrame(), "") == "% no results\n"


def test_csv_is_unrounded_and_has_both_fractions():
    found = [result(seed=1), result(seed=2)]
    (row,) = csv.DictReader(io.StringIO(tables.to_csv(gathered(*found).cells)))
    mean = sum(each["metric"]["final"] for each in found) / 2
    assert float(row["metric/final mean"]) == pytest.approx(mean, abs=1e-12)
    assert (row["task"], row["ratio"], row["n"], row["sample"]) == ("sst2", "0.5", "2", "False")
    assert (row["params/block_pruned mean"], row["select/final mean"]) == ("0.5", "")
    assert float(row["params/all_pruned mean"]) == pytest.approx(0.235)


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({}, "0.5 60.0 55.0 59.5 50.0 1.95x 227 kB"),
        ({"metric": {}, "latency": {}, "params": {}, "skill_bytes": None}, "0.5 - - - - -"),
        (
            {"latency": {"speedup": 1.234, "contended": True}},
            "0.5 60.0 55.0 59.5 50.0 - 227 kB contended",
        ),
    ],
)
def test_a_row_of_the_jobs(fields, row):
    title, *_, found = shown(scored(**fields))
    assert "rte" in title and " ".join(found.split()) == row


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"config": {"data": {"train_rows": 500}}}, "data.train_rows=500"),
        ({"data_is_sample": True, "data_source": "embedded:snli_pairs"}, "stand-in"),
        # Not eaten as markup.
        ({"status": "failed", "error": "prune.ratio=2: in [0, 1)"}, "failed: prune.ratio=2: in [0"),
        ({"backbone_note": NOTE}, "BERT-derived"),
        ({"params": {"block_pruned": 0.47}}, "reached 0.47"),
        ({"metric": {"name": "accuracy", "dense": 0.55}}, "at chance"),
    ],
)
def test_a_job_that_is_no_plain_result_is_marked(fields, note):
    """Majority 0.5 of 400 rows: chance ends at 0.55, two standard errors above."""
    judged = {"majority": {"accuracy": 0.5}}
    _, _, one, other = shown(scored(**judged | fields), scored(**judged, seed=2))
    assert note in one and note not in other


def test_settings_that_all_rows_share_are_named_once():
    shared = {"prune": {"layers": 3}, "data": {"train_rows": 1000}}
    jobs = [scored(config=shared | {"tune": {"lr": lr}}) for lr in (0.1, 0.2)]
    title, _, one, other = shown(*jobs)
    assert "prune.layers=3" in title and "data.train_rows=1000" in title
    assert one.split()[0] == "tune.lr=0.1" and other.split()[0] == "tune.lr=0.2"


def test_a_title_is_as_wide_as_the_terminal():
    jobs = [scored(config={"prune": {"within": 0.02}, "data": {"train_rows": 1000}})] * 2
    assert shown(*jobs, width=80)[0].endswith("data.train_rows=1000")


def test_every_metric_of_a_task_is_a_column():
    metrics = {"accuracy": {"final": 0.59}, "f1_macro": {"dense": 0.3, "final": 0.421}, "extra": {}}
    head, row = shown(scored(metrics=metrics))[1:]
    assert head.split()[3:5] == ["accuracy", "f1_macro"] and row.split()[3:5] == ["59.5", "42.1"]


def cells(found):
    return gather(frame_of(found)).cells


def drawn(draw, *found):
    """Figures by title as XML, and the legend."""
    drawings, legend = draw(cells(found))
    parsed = {title: ET.fromstring(svg.replace("xlink:", "")) for title, svg in drawings}
    return parsed, legend


def inside(svg, name):
    """What each element of a drawing is: its text, or where it is (x, y)."""
    elements = svg.iter(name)
    if name == "text":
        return [element.text for element in elements]
    return [(float(element.get("x")), float(element.get("y"))) for element in elements]


def paths(svg, colour):
    """Points of the lines and bars of a colour; what has a name is the shape of a mark."""
    style = f"stroke: var(--{colour})"
    lines = [path for path in svg.iter("path") if style in path.get("style", "")]
    lines = [path.get("d", "") for path in lines if not path.get("id")]
    return [re.findall(r"[ML] ([\d.]+) ([\d.]+)", line) for line in lines if line]


def test_paths_of_pruning_start_from_dense_at_zero():
    scores = {"name": "accuracy", "dense": 0.8, "pruned": 0.5, "final": 0.7}
    shown, legend = drawn(figures.pruning, result(metric=scores))
    ((title, svg),) = shown.items()
    assert title == "sst2 · minilm" and list(legend) == ["activation_gradient", figures.MAJORITY]
    texts = set(inside(svg, "text"))
    assert {"0", "100"} <= texts and figures.MAJORITY not in texts  # which would cover a curve
    assert figures.MAJORITY not in drawn(figures.pruning, result(metric=scores, majority={}))[1]
    left, width = 0.14 * figures.WIDTH, 0.82 * figures.WIDTH
    pruned, final = paths(svg, "c0")
    for path in (pruned, final):
        assert [float(x) for x, _ in path] == pytest.approx([left, left + width / 2], abs=0.1)
    assert pruned[0] == final[0]  # dense
    assert 0 < float(final[0][1]) < float(final[1][1]) < float(pruned[1][1])  # higher is better
