import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import wandb

from skip_exp import results
from skip_exp.commands import dashboard
from skip_exp.errors import SkipError
from skip_exp.logger import key
from skip_exp.report import frame
from tests.helpers.fakes import grid, result, store
from tests.helpers.wandb_backend import backend


@pytest.fixture
def dry(tmp_path):
    pytest.importorskip("wandb_workspaces")
    out = tmp_path / "deep" / "dashboard.json"
    arguments = ["--entity", "team", "--project", "proj", "--dry-run", "--out", str(out)]
    assert dashboard.main(arguments) == 0
    return json.loads(out.read_text())


def panels(view):
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


def test_dry_run_writes_both_views_and_a_report(dry):
    names = ["skip_exp: runs", "skip_exp: sweeps", "skip_exp: results"]
    assert [view["displayName"] for view in dry] == names
    assert {(view["entity"], view["project"]) for view in dry[:2]} == {("team", "proj")}
    assert dry[2]["project"] == {"name": "proj", "entityName": "team"}
    groups = [view["spec"]["section"]["runSets"][0]["grouping"] for view in dry[:2]]
    assert groups == [[], [{"section": "run", "name": "group"}]]


def test_without_folders_the_report_has_the_panels_alone(dry):
    blocks = dry[2]["spec"]["blocks"]
    headings = [block["children"][0]["text"] for block in blocks if block["type"] == "heading"]
    assert headings[:2] == ["Runs", "Speed-up and size against metric"]
    grids = [block["metadata"] for block in blocks if block["type"] == "panel-grid"]
    shown = [
        panel["viewType"] for each in grids for panel in each["panelBankSectionConfig"]["panels"]
    ]
    assert shown == [panel["viewType"] for panel in panels(dry[0])]
    assert "markdown-block" not in {block["type"] for block in blocks}


def test_the_reports_tables_are_of_the_results(tmp_path):
    pytest.importorskip("wandb_workspaces")
    found = store(tmp_path / "results", grid(["sst2"], ["minilm"], [0.3, 0.7], seeds=(1, 2)))
    out = tmp_path / "dashboard.json"
    assert dashboard.main([str(found), "--dry-run", "--out", str(out)]) == 0
    blocks = json.loads(out.read_text())[2]["spec"]["blocks"]
    text, compared = [block["content"] for block in blocks if block["type"] == "markdown-block"]
    assert "random against activation_gradient" in compared
    every, speed, size = text.split("Pareto fronts")[0], *text.split("### ")[1:]
    assert every.count("| sst2 | minilm |") == 4
    # Random keep is as fast and as small, and worse: it is on no front.
    for front in (speed, size):
        assert "random" not in front
        assert [line.split(" | ")[3] for line in front.splitlines() if "sst2" in line] == [
            *("0.3", "0.7")
        ]


def test_the_front_has_what_nothing_else_beats():
    points = {0.3: (1.4, 0.80), 0.5: (1.8, 0.79), 0.6: (1.7, 0.78), 0.7: (2.2, 0.70)}
    found = [
        result(
            ratio=ratio,
            metric={"name": "accuracy", "dense": 0.8, "pruned": 0.5, "final": final},
            latency={"speedup": speed, "contended": False},
        )
        for ratio, (speed, final) in points.items()
    ]
    every = dashboard.cells.gather(frame.ordered(frame.rows(found))).cells
    front = dashboard.front(every, "latency/speedup")
    assert front["ratio"].tolist() == ["0.3", "0.5", "0.7"]
    assert dashboard.front(every.assign(**{"latency/speedup mean": None}), "latency/speedup").empty


def test_folders_without_a_result_are_one_line(tmp_path, capsys):
    pytest.importorskip("wandb_workspaces")
    assert dashboard.main([str(tmp_path), "--dry-run", "--out", str(tmp_path / "out.json")]) == 1
    assert "no result.json below" in capsys.readouterr().err


@pytest.mark.slow
def test_the_backend_is_given_views_and_report():
    pytest.importorskip("wandb_workspaces")
    command = [sys.executable, "-m", "skip_exp", "dashboard", "--entity", "team"]
    with backend() as server:
        env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        env |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40}
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        saved = [(view["type"], view["displayName"]) for view in server.views]
    assert saved == [
        *(("project-view", "skip_exp: runs"), ("project-view", "skip_exp: sweeps")),
        ("runs", "skip_exp: results"),
    ]
    assert ended.stdout.count(f"saved: {server.url}/team/skip_exp") == 3


def test_only_saving_needs_an_entity(tmp_path, capsys):
    pytest.importorskip("wandb_workspaces")
    assert dashboard.main(["--dry-run", "--out", str(tmp_path / "views.json")]) == 0
    views = json.loads((tmp_path / "views.json").read_text())
    assert {view["entity"] for view in views[:2]} == {"ENTITY"}
    with pytest.raises(SystemExit):
        dashboard.main(["--project", "proj"])
    assert capsys.readouterr().err.endswith(
        "error: --entity: needed to save workspaces and report\n"
    )


def test_the_view_by_run_has_every_kind_of_panel(dry):
    kinds = [panel["viewType"] for panel in panels(dry[0])]
    assert kinds.count("Scatter Plot") == 3 and kinds.count("Run History Line Plot") == 12
    assert kinds.count("Parallel Coordinates Plot") == kinds.count("Media Browser") == 1


def test_panels_read_fields_that_results_have(dry):
    latency = {"speedup": 2.0, "contended": False}
    stored = results.flatten(result(latency=latency) | {"error": "x"})
    asked = set(re.findall(r'"summary:([^"]+)"', json.dumps(dry)))
    assert asked >= {"latency/speedup", "metric/final", "ratio", "seed", "attribution"}
    assert asked - stored.keys() == set()


def test_without_the_extra_it_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert dashboard.main(["--entity", "e", "--dry-run"]) == 1
    assert capsys.readouterr().err.endswith("pip install 'skip_exp[dashboard]'\n")


def test_without_a_key_it_is_one_line(monkeypatch):
    monkeypatch.setattr(key, "has_key", lambda: False)
    with pytest.raises(SkipError, match="WANDB_API_KEY"):
        dashboard.save([])


def test_save(monkeypatch):
    monkeypatch.setattr(key, "has_key", lambda: True)
    saved = SimpleNamespace(url="https://address")
    assert dashboard.save([SimpleNamespace(save=lambda: saved)]) == ["https://address"]

    def refuse():
        raise wandb.errors.CommError("no such\nentity")

    with pytest.raises(SkipError, match=": no such entity"):
        dashboard.save([SimpleNamespace(save=refuse)])


def test_unwritable_out(tmp_path, capsys):
    pytest.importorskip("wandb_workspaces")
    (tmp_path / "file").write_text("")
    arguments = ["--entity", "e", "--dry-run", "--out", str(tmp_path / "file" / "x.json")]
    assert dashboard.main(arguments) == 1
    assert "cannot be written" in capsys.readouterr().err
