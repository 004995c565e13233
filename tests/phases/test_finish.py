"""The skill that a job leaves is the model that it scored, whichever phase trained what."""

import csv
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
import torch

from skip_exp import pipeline
from skip_exp.backbones.load import load_backbone
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.trained import train_only
from skip_exp.outcomes import registry
from skip_exp.phases.finish import count_params
from skip_exp.phases.test import _reorder
from skip_exp.results import PREDICTIONS
from skip_exp.skill.files import read_skill
from skip_exp.skill.skill import Skill
from tests.helpers.tiny import tiny_model
from tests.helpers.toy import toy_job


@pytest.mark.parametrize(
    ("tuned", "retuned", "enabled", "ratio", "held"),
    [
        ("bias", "prompt", False, 0, "bias"),
        ("prompt_readout", "bias", True, 0.5, "bias"),
        pytest.param("full", "prompt_readout", False, 0, "full", marks=pytest.mark.slow),
        ("prompt_readout", "full", True, 0.5, "full"),
        ("layers", "layers", True, 0.5, "layers"),
        ("prompt_readout", "bias", False, 0.5, "prompt_readout"),  # nothing that was not trained
        pytest.param("prompt", "prompt", True, 0.5, "prompt", marks=pytest.mark.slow),
    ],
)
def test_it_can_be_read(
    toy: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tuned: str,
    retuned: str,
    enabled: bool,
    ratio: float,
    held: str,
) -> None:
    monkeypatch.setattr(registry, "FEWEST", 40)
    asked = [f"tune.train={tuned}", f"retune.train={retuned}", f"prune.ratio={ratio}"]
    result = pipeline.run(toy_job(toy, tmp_path, "run", *asked, f"retune.enabled={enabled}"))
    skill = Skill.load(tmp_path / "run/skill")
    assert skill.about.train == held
    assert {len(x) for x in skill.ranges.values()} >= {24}  # of 8-bit activations, by linear
    _, tensors = read_skill(tmp_path / "run/skill")
    assert any(name.startswith("backbone.") for name in tensors) == (
        held in ("bias", "layers", "full")
    )
    validation = next(part for part in toy if "files.validation" in part).partition("=")[2]
    rows = list(csv.DictReader(Path(validation).read_text().splitlines()))
    answers = skill.predict([row["text"] for row in rows])
    names = ["bad", "good"]
    right = [a["label"] == names[int(row["label"])] for a, row in zip(answers, rows, strict=True)]
    assert sum(right) / len(rows) == pytest.approx(result["metric"]["final"], abs=1e-6)
    kept = pd.read_csv(tmp_path / "run" / PREDICTIONS)
    assert kept["label"].tolist() == [int(row["label"]) for row in rows]
    assert [names[i] for i in kept["predicted"]] == [answer["label"] for answer in answers]
    dense = (kept["dense"] == kept["label"]).mean()
    assert dense == pytest.approx(result["metric"]["dense"], abs=1e-6)
    largest = [max(answer["probabilities"].values()) for answer in answers]
    assert kept["probability"].tolist() == pytest.approx(largest, abs=1e-4)
    assert result.calibration.temperature == skill.about.temperature != 1
    assert 0 <= result["calibration"]["ece"] <= 1 and result["calibration"]["ece_raw"] is not None


def test_its_backbone_is_found_from_any_working_directory(
    toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(next(part for part in toy if "backbone.path" in part).partition("=")[2])
    monkeypatch.chdir(folder.parent)
    few = ["attribution=magnitude", "retune.enabled=false", f"backbone.path={folder.name}"]
    pipeline.run(toy_job(toy, tmp_path, "run", *few))
    monkeypatch.chdir(tmp_path)
    load_backbone.cache_clear()
    assert Skill.load("run/skill").about.backbone.path == str(folder.resolve())


def test_logits_come_back_in_the_order_of_the_rows() -> None:
    rows = [{"input_ids": [0] * length} for length in (3, 1, 2, 1)]
    by_length = torch.tensor([[1.0], [3.0], [2.0], [0.0]])  # each the index of its row
    assert _reorder(by_length, rows).flatten().tolist() == [0, 1, 2, 3]


def test_parameters_are_counted_on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model().copy()
    train_only(model, "lora", rank=2)
    counted = count_params(model, model)
    for name, parameter in model.backbone.named_parameters():
        if name.endswith("lora_A"):
            parameter.data = parameter.double()  # stands in for a second device
    monkeypatch.setattr(SoftPromptModel, "on", lambda self, _: deepcopy(self).float())
    assert count_params(model, model) == counted
