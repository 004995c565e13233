import html
import re

import pandas as pd
import pytest

from skip_exp.commands.report import main
from tests.helpers.fakes import failed, grid, result, store

FILES = {"report.md", "report.csv", "report.tex", "report.html", "results.csv"}


def mixed():
    """A sweep with everything that a report must name."""
    found = grid(["sst2", "rte", "cola"], ["minilm", "t5_mini"], [0.3, 0.52, 0.7])
    gone = found.pop(20)
    same = {key: gone[key] for key in ("task", "backbone", "ratio", "seed", "attribution")}
    found.append(failed("CUDA <b>out</b> of memory", **same))
    found.append(result("rte", data_is_sample=True, data_source="embedded:snli_pairs"))
    found.append(result("qnli", metric={"name": "accuracy", "dense": 0.5}, sweep=None))
    found.append(result("mrpc", latency={"speedup": 1.23, "contended": True}, sweep=None))
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    store(root / "jobs", mixed())
    (root / "jobs" / "torn").mkdir()
    (root / "jobs" / "torn" / "result.json").write_text('{"status": "do')
    assert main([str(root / "jobs"), "--output", str(root / "out")]) == 0
    return root / "out"


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_names_what_is_failed_or_marked(made, name):
    text = html.unescape((made / name).read_text())
    assert "CUDA <b>out</b> of memory" in text
    for mark in ("stand-in", "at chance", "contended"):
        assert mark in text
    assert "1.23" not in text


def test_page_is_self_contained_and_escaped(made):
    text = (made / "report.html").read_text()
    assert "<b>out</b>" not in text
    for outside in ("http:", "https:", "<script", "src=", "@import", "url("):
        assert outside not in text
    assert "</figcaption></figure>" not in text  # a figure without a drawing
    assert text.count("<svg viewBox") > 10
    body = text.split("</style>")[1]
    assert "None" not in body and not re.search(r"\bnan\b", body)


def test_the_files_of_a_report(made):
    assert {file.name for file in made.iterdir()} == FILES
    rows = pd.read_csv(made / "results.csv")
    assert len(rows) == len(mixed()) and {"job_id", "metric/final", "config/tune.lr"} <= {*rows}


def test_prints_the_table_and_failures(tmp_path, capsys):
    for name, found in (("some", [result(), failed(seed=2)]), ("none", [failed(seed=2)])):
        folder = store(tmp_path / name, found)
        assert main([str(folder), "--output", str(tmp_path / "out")]) == 0
        shown = capsys.readouterr().out
        assert "activation_gradient" in shown and "report.html" in shown
        assert "failed: sst2, minilm, activation_gradient, ratio 0.5, seed 2: prune.ratio" in shown
        assert "too much" in (tmp_path / "out" / "report.html").read_text()


def test_refusals_are_one_line(tmp_path, capsys):
    folder, file = store(tmp_path / "jobs", [result()]), tmp_path / "file"
    file.write_text("")
    for arguments in ([tmp_path / "nowhere"], [folder, "--output", file / "out"]):
        assert main(list(map(str, arguments))) == 1
        assert capsys.readouterr().err.count("\n") == 1
