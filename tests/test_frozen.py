"""The recipe ``skip`` changes no weight of the backbone, in every family."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from skip_exp import pipeline
from skip_exp.models.surgery import cut
from skip_exp.phases.prepare import prepare
from tests.helpers.saved import save_backbone
from tests.helpers.tiny import KINDS, READOUT
from tests.helpers.toy import save_toy, toy_job


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_of_the_backbone_is_as_it_was(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = save_toy(tmp_path)
    save_backbone(tmp_path / "backbone", kind)
    toy += [f"backbone.family={kind.split('_')[0]}", f"backbone.readout={READOUT[kind]}"]
    toy += ["task.words=[bad,good]", "data.train_rows=40", "prune.ratio=0.4"]
    cfg = toy_job(toy, tmp_path, "run", "experiment=skip", "tune.lr=0.5", "retune.lr=0.5")
    left: dict[str, Any] = {}
    finish = pipeline.finish
    monkeypatch.setattr(pipeline, "finish", lambda *a, **k: left.update(k) or finish(*a, **k))
    result = pipeline.run(cfg)
    assert result["epochs"] == 1 and result["params"]["block_pruned"] > 0.3

    before = cut(prepare(cfg).new_model(), left["keep"]).backbone.state_dict()
    after = left["final"].backbone.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    stored = load_file(tmp_path / "run/skill/skill.safetensors")
    assert {name.partition(".")[0] for name in stored if "/" not in name} <= {"prompt", "readout"}
