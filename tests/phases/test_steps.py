"""Whole jobs that prune in several steps, on a tiny random BERT."""

from pathlib import Path
from typing import Any

import pytest
import torch

from skip_exp import pipeline
from skip_exp.job.prepare import prepare
from skip_exp.phases import attribute, fit, prune, retune, tune
from skip_exp.skill.load import Skill
from tests.helpers.toy import rarely, save_toy, toy_job

NUMBERS = ("metric", "metrics", "select", "params", "keep_sizes", "ratio_reached")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def job(toy: list[str], tmp_path: Path) -> Any:
    return lambda *overrides, folder="run": toy_job(toy, tmp_path, folder, *overrides)


def kept(folder: Path) -> dict[str, list[int]]:
    return {site: k.tolist() for site, k in Skill.load(folder / "skill").keep.items()}


def test_steps_change_nothing_where_the_attribution_does_not_change(
    job: Any, tmp_path: Path
) -> None:
    """The weights of what is left are the same after a cut of units and heads."""
    asked = ["attribution=magnitude", "prune.ratio=0.6"]
    one = pipeline.run(job(*asked, folder="one"))
    many = pipeline.run(job(*asked, "prune.steps=3", folder="many"))
    assert kept(tmp_path / "one") == kept(tmp_path / "many")
    assert [one[key] for key in NUMBERS] == [many[key] for key in NUMBERS]
    assert (one["method"]["steps"], many["method"]["steps"]) == (1, 3)


def test_every_step_is_attributed_and_only_the_first_is_cached(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = attribute.relevance_of

    def relevance_of(of: Any, model: Any) -> Any:
        seen.append(sum(block.output.in_features for block in model.blocks()))
        return real(of, model)

    for module in (attribute, prune):
        monkeypatch.setattr(module, "relevance_of", relevance_of)
    one = pipeline.run(job("prune.ratio=0.6", folder="one"))
    full = seen.copy()
    assert len(full) == 1
    many = pipeline.run(job("prune.ratio=0.6", "prune.steps=3", folder="many"))
    assert many["cache"] == {"tune": "hit", "attribution": "hit"}
    first, second = seen[1:]
    assert full[0] > first > second
    assert many["ratio_reached"] == pytest.approx(one["ratio_reached"], abs=0.05)
    assert kept(tmp_path / "one") != kept(tmp_path / "many")


@pytest.mark.parametrize(
    "overrides",
    [
        ["prune.step_epochs=1", "retune.lr=0.05", "retune.bias_lr=0.05"],
        *rarely(["prune.step_epochs=1", "prune.sites=[ffn,heads,qk,vo]", "retune.train=prompt"]),
    ],
)
def test_the_skill_gives_the_final_model_back(
    job: Any, tmp_path: Path, overrides: list[str]
) -> None:
    cfg = job("prune.ratio=0.6", "prune.steps=2", *overrides)
    result = pipeline.run(cfg)
    skill = Skill.load(tmp_path / "run" / "skill")
    rows = prepare(cfg).data.select
    right = 0
    for row in rows:
        inputs = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            answer = skill.model(inputs, torch.ones_like(inputs)).argmax(-1).item()
        right += answer == row["label"]
    assert right / len(rows) == pytest.approx(result["select"]["final"])


def test_tuning_between_the_steps_is_short_and_counts(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[tuple[str, int]] = []
    real = fit.fit

    def noted(of: Any, model: Any, settings: Any, phase: str, *rest: Any) -> Any:
        fits.append((phase, settings.epochs))
        return real(of, model, settings, phase, *rest)

    for module in (tune, prune, retune):
        monkeypatch.setattr(module, "fit", noted)
    own = ["prune.ratio=0.6", "prune.steps=3", "tune.epochs=2", "retune.epochs=3"]
    pipeline.run(job(*own, "prune.step_epochs=1"))
    assert fits == [("tune", 2), ("step1", 1), ("step2", 1), ("retune", 3)]
