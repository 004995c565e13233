"""The page of a report, and the views of a dashboard."""

import html
import json
import re
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import wandb

from skip_exp import results
from skip_exp.commands import dashboard
from skip_exp.commands.report import main
from skip_exp.errors import SkipError
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


NAMES = ["skip_exp: runs", "skip_exp: sweeps"]


@pytest.fixture(scope="module")
def views():
    """What would be sent to W&B."""
    pytest.importorskip("wandb_workspaces")
    models = [view._to_model() for view in dashboard.build_workspaces("me", "proj")]
    return [model.model_dump(mode="json", by_alias=True, exclude_none=True) for model in models]


def test_there_are_two_views(views):
    assert [view["displayName"] for view in views] == NAMES
    assert {(view["entity"], view["project"]) for view in views} == {("me", "proj")}
    groups = [view["spec"]["section"]["runSets"][0]["grouping"] for view in views]
    assert groups == [[], [{"section": "run", "name": "group"}]]


def test_panels_read_fields_that_results_have(views):
    latency = {"speedup": 2.0, "contended": False}
    stored = results.flatten(result(latency=latency) | {"error": "x"})
    asked = set(re.findall(r'"summary:([^"]+)"', json.dumps(views)))
    assert asked >= {"latency/speedup", "metric/final", "ratio", "seed", "attribution"}
    assert asked - stored.keys() == set()


def test_views_are_saved_or_refused(monkeypatch, capsys):
    def refuse():
        raise wandb.errors.CommError("no such\nentity")

    with pytest.raises(SystemExit):
        dashboard.main(["--project", "proj"])
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    with pytest.raises(SkipError):
        dashboard.save_views([])
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    saved = SimpleNamespace(save=lambda: SimpleNamespace(url="https://address"))
    assert dashboard.save_views([saved]) == ["https://address"]
    with pytest.raises(SkipError, match=": no such entity"):
        dashboard.save_views([SimpleNamespace(save=refuse)])
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert dashboard.main(["--entity", "me"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
