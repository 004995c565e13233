import io
import subprocess
import sys

import pytest
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


def test_few_train_rows_are_told():
    shown = text(summary.table([done(train_rows=500), done()]))
    assert shown.count("500 train rows") == 1 and shown.count("train rows") == 1


def test_table_marks_what_is_not_a_plain_result():
    found = [
        done(latency={"speedup": 1.234, "contended": True}),
        done(data_is_sample=True, data_source="embedded:snli_pairs"),
        done(status="failed", error="prune.ratio=2: in [0, 1)", metric={}, params={}, latency={}),
        done(reused=True, seed=2),
    ]
    shown = text(summary.table(found))
    assert "contended" in shown and "1.23" not in shown
    assert "*stand-in*" in shown
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


def test_a_note_says_what_is_at_chance_or_missed_its_ratio():
    """Majority 0.5 of 400 rows: chance ends at 0.55, two standard errors above."""
    judged = {"majority": {"accuracy": 0.5}, "n_eval": 400}
    scores = {"name": "accuracy", "pruned": 0.5, "final": 0.5}
    found = [
        done(seed=1, metric=scores | {"dense": 0.55}, **judged),
        done(seed=2, metric=scores | {"dense": 0.56}, **judged),
        done(seed=3, params={"block_pruned": 0.47, "all_pruned": 0.2}),
        done(seed=4, params={"block_pruned": 0.485, "all_pruned": 0.2}),
    ]
    rows = [line for line in text(summary.table(found)).splitlines() if "minilm" in line]
    assert [row.split("│")[-2].strip() for row in rows] == ["at chance", "", "reached 0.47", ""]


def wide_sweep(**fields):
    """Everything that can differ does, and something is to be said of one job."""
    return [
        done(attribution="integrated_gradients", task="boolq", seed=1, **fields),
        done(attribution="activation_gradient", task="sst2", seed=2, **fields),
        done(backbone="roberta_mini", status="failed", error="tune.lr=1: " + 9 * "too large "),
    ]


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize(
    "found",
    [
        [done()],
        [done(ratio=r, seed=s, params={"block_pruned": r}) for r in (0.3, 0.5) for s in (1, 2)],
        [done(attribution=a, seed=s) for a in ("integrated_gradients", "random") for s in (1, 2)],
        wide_sweep(),
    ],
    ids=["one", "ratios", "methods", "everything"],
)
def test_the_table_fits_a_terminal(found, width):
    console = Console(width=10_000, file=io.StringIO())
    console.print(summary.table(found, width), width=width)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    told = " ".join(" ".join(lines).split())
    for part in ("60.0", "55.0", "59.5", "1.95x", "accuracy", "local"):
        assert part in told  # nothing is cut
    if len(found) != 3:
        assert "minilm" in told and "rte" in told
        body = [line for line in lines[1:] if line.strip(" ━─┏┓└┘┡┩╇┳┴")]
        assert len(body) == 1 + len(found)  # nothing wraps


def test_what_all_jobs_share_is_in_the_title_where_room_is_scarce():
    found = [done(seed=seed) for seed in (1, 2)]
    narrow = text(summary.table(found, 80)).splitlines()
    assert narrow[0].strip() == "2 jobs: rte, minilm, accuracy, local; metrics in percent"
    assert narrow[2].strip("┃ ").startswith("seed")
    assert text(summary.table([done()])).strip().startswith("1 job, metrics in percent")


def test_jobs_do_not_wait_for_pandas():
    code = "import sys, skip_exp.report.summary; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
