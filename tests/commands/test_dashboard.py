import json
import re
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import wandb

from skip_exp import results
from skip_exp.commands import dashboard
from skip_exp.errors import SkipError
from tests.helpers.fakes import result

NAMES = ["skip_exp: runs", "skip_exp: sweeps"]


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    pytest.importorskip("wandb_workspaces")
    out = tmp_path_factory.mktemp("dry") / "deep" / "dashboard.json"
    assert dashboard.main(["--project", "proj", "--dry-run", "--output", str(out)]) == 0
    return json.loads(out.read_text())


def test_dry_run_writes_both_views(dry):
    assert [view["displayName"] for view in dry] == NAMES
    assert {(view["entity"], view["project"]) for view in dry} == {("ENTITY", "proj")}
    groups = [view["spec"]["section"]["runSets"][0]["grouping"] for view in dry]
    assert groups == [[], [{"section": "run", "name": "group"}]]


def test_the_view_by_run_has_every_kind_of_panel(dry):
    sections = dry[0]["spec"]["section"]["panelBankConfig"]["sections"]
    kinds = Counter(panel["viewType"] for section in sections for panel in section["panels"])
    assert kinds == {
        **{"Scatter Plot": 3, "Run History Line Plot": 16},
        **{"Parallel Coordinates Plot": 1, "Media Browser": 1},
    }


def test_panels_read_fields_that_results_have(dry):
    latency = {"speedup": 2.0, "contended": False}
    stored = results.flatten(result(latency=latency) | {"error": "x"})
    asked = set(re.findall(r'"summary:([^"]+)"', json.dumps(dry)))
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
    assert dashboard.main(["--dry-run"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
