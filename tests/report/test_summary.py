import io
import subprocess
import sys

from rich.console import Console

from skip_exp import results
from skip_exp.report import summary


def done(**fields):
    given = {
        "task": "rte",
        "backbone": "minilm",
        "seed": 1,
        "attribution": "activation_gradient",
        "ratio": 0.5,
        "data_source": "local:/data",
        "metric": {"name": "accuracy", "dense": 0.6, "pruned": 0.55, "final": 0.5949},
        "params": {"block_pruned": 0.5, "all_pruned": 0.234},
        "latency": {"speedup": 1.949, "contended": False},
    }
    return results.new(**given | fields)


def text(view):
    console = Console(width=200, file=io.StringIO())
    console.print(view)
    return console.file.getvalue()


def test_table_row():
    row = text(summary.table([done()])).splitlines()[4]
    assert row.replace("│", "").split() == [
        *("rte", "minilm", "accuracy", "0.5", "60.0", "55.0", "59.5", "50.0", "23.4"),
        *("1.95x", "local"),
    ]


def test_table_marks_what_is_not_a_plain_result():
    found = [
        done(latency={"speedup": 1.234, "contended": True}),
        done(data_is_sample=True, data_source="sample"),
        done(status="failed", error="prune.ratio=2: in [0, 1)", metric={}, params={}, latency={}),
        done(reused=True, seed=2),
    ]
    shown = text(summary.table(found))
    assert "contended" in shown and "1.23" not in shown
    assert "*sample*" in shown
    assert "failed: prune.ratio=2: in [0, 1)" in shown  # not eaten as markup
    assert "reused" in shown and "seed" in shown and "attribution" not in shown


def test_table_of_nothing():
    assert "0 jobs" in text(summary.table([]))


def test_the_order_given_stays_and_the_backbone_is_explained():
    note = "BERT-derived: minilm's weights"
    found = [done(ratio=0.7, finished="2"), done(ratio=0.3, finished="1", backbone_note=note)]
    rows = [line for line in text(summary.table(found)).splitlines() if "minilm" in line]
    assert ["0.7" in row for row in rows] == [True, False]
    assert ["BERT-derived" in row for row in rows] == [False, True]
    both = done(backbone_note=note, reused=True)
    assert "BERT-derived, reused" in text(summary.table([both]))


def test_what_is_not_known_is_a_dash():
    row = text(summary.table([done(ratio=None, metric={}, latency={}, params={})])).splitlines()[4]
    assert row.replace("│", "").split() == ["rte", "minilm", *["-"] * 8, "local"]


def test_jobs_do_not_wait_for_pandas():
    code = "import sys, skip_exp.report.summary; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
