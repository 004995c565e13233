import io
import subprocess
import sys

import pytest
from rich.console import Console

from skip_exp import results
from skip_exp.report import summary
from tests.helpers import fakes

NOTE = "BERT-derived: minilm's weights"


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


def shown(found, width=200):
    """Title, head and rows of the table."""
    console = Console(width=width, file=io.StringIO())
    console.print(summary.table(found, width))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({}, "rte minilm accuracy 0.5 60.0 55.0 59.5 50.0 23.4 1.95x local"),
        (
            {"ratio": None, "metric": {}, "latency": {}, "params": {}},
            "rte minilm - - - - - - - - local",
        ),
        (
            {"latency": {"speedup": 1.234, "contended": True}, "flops": {"ratio": 2.93}},
            "rte minilm accuracy 0.5 60.0 55.0 59.5 50.0 23.4 ~2.9x FLOPs local",
        ),
    ],
)
def test_rows(fields, row):
    assert " ".join(shown([done(**fields)])[2].split()) == row
    assert len(shown([])) == 2


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"train_rows": 500}, "500 train rows"),
        ({"data_is_sample": True, "data_source": "embedded:snli_pairs"}, "*stand-in*"),
        # Not eaten as markup.
        ({"status": "failed", "error": "prune.ratio=2: in [0, 1)"}, "failed: prune.ratio=2: in [0"),
        ({"reused": True}, "reused"),
        ({"backbone_note": NOTE}, "BERT-derived"),
        ({"backbone_note": NOTE, "reused": True}, "BERT-derived, reused"),
        ({"params": {"block_pruned": 0.47, "all_pruned": 0.2}}, "reached 0.47"),
        ({"metric": {"name": "accuracy", "dense": 0.55}}, "at chance"),
    ],
)
def test_what_is_no_plain_result_is_marked(fields, note):
    """Majority 0.5 of 400 rows: chance ends at 0.55, two standard errors above."""
    judged = {"majority": {"accuracy": 0.5}, "n_eval": 400}
    close = {"params": {"block_pruned": 0.485, "all_pruned": 0.2}}
    _, _, one, other = shown([done(**judged | fields), done(**judged | close)])
    assert note in one and other.rstrip().endswith("local")


def test_every_metric_of_a_task_is_shown_where_there_is_room():
    metrics = {"accuracy": {"final": 0.59}, "f1": {"dense": 0.3, "final": 0.421}, "extra": {}}
    wide, narrow = (shown([done(metrics=metrics)], width) for width in (120, 36))
    assert "final f1" in wide[1] and " 42.1 " in wide[2]
    assert "f1" not in " ".join(narrow)
    assert "final f1" not in shown([done()])[1]
    assert "final accuracy" not in " ".join(shown([done(), fakes.failed()]))


def test_the_order_given_stays():
    found = [done(ratio=0.7, finished="2"), done(ratio=0.3, finished="1")]
    assert ["0.7" in row for row in shown(found)[2:]] == [True, False]


def wide_sweep():
    """Everything that can differ does, and something is to be said of one job."""
    return [
        done(attribution="integrated_gradients", task="boolq", seed=1),
        done(attribution="activation_gradient", task="sst2", seed=2),
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
    lines = shown(found, width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for part in ("60.0", "55.0", "59.5", "1.95x", "accuracy", "local", "minilm", "rte"):
        assert part in text  # nothing is cut
    if len(found) != 3:
        assert "dense" in lines[-len(found) - 1]  # no row wraps


def test_what_all_jobs_share_goes_into_the_title_then_sizes_go():
    found = [done(seed=seed, attribution=10 * "x") for seed in (1, 2)]
    for width, is_shared, has_sizes in ((100, False, True), (70, True, True), (50, True, False)):
        *title, head, _, _ = shown(found, width)
        assert ("rte," in " ".join(title)) == is_shared
        assert head.startswith("seed" if is_shared else "task") and ("all %" in head) == has_sizes


def test_jobs_do_not_wait_for_pandas():
    code = "import sys, skip_exp.sweep.finish; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
