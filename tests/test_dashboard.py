import json
import re
import sys
from types import SimpleNamespace

import pytest
import wandb

from skip_exp import dashboard, results
from skip_exp.config.task import METRICS
from skip_exp.errors import SkipError
from skip_exp.logger import key
from tests.helpers.fakes import result


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


def test_dry_run_writes_both_views(dry):
    assert [view["displayName"] for view in dry] == ["skip_exp: runs", "skip_exp: sweeps"]
    assert {(view["entity"], view["project"]) for view in dry} == {("team", "proj")}
    groups = [view["spec"]["section"]["runSets"][0]["grouping"] for view in dry]
    assert groups == [[], [{"section": "run", "name": "group"}]]


def test_only_saving_needs_an_entity(tmp_path, capsys):
    pytest.importorskip("wandb_workspaces")
    assert dashboard.main(["--dry-run", "--out", str(tmp_path / "views.json")]) == 0
    assert {view["entity"] for view in json.loads((tmp_path / "views.json").read_text())} == {
        "ENTITY"
    }
    with pytest.raises(SystemExit):
        dashboard.main(["--project", "proj"])
    assert capsys.readouterr().err.endswith("error: --entity: needed to save the workspaces\n")


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


def test_curves_are_those_of_the_tasks_metrics():
    assert set(dashboard.METRICS) == set(METRICS)


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

    with pytest.raises(SkipError, match="W&B refused: no such entity"):
        dashboard.save([SimpleNamespace(save=refuse)])


def test_unwritable_out(tmp_path, capsys):
    pytest.importorskip("wandb_workspaces")
    (tmp_path / "file").write_text("")
    arguments = ["--entity", "e", "--dry-run", "--out", str(tmp_path / "file" / "x.json")]
    assert dashboard.main(arguments) == 1
    assert "cannot be written" in capsys.readouterr().err
