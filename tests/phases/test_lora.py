"""Whole jobs with low-rank updates, on a tiny random BERT."""

from pathlib import Path
from typing import Any

import pytest
import torch

from skip_exp import pipeline
from skip_exp.models import trained
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.trained import trainable_state
from skip_exp.phases.prepare import prepare
from skip_exp.phases.tune import tune
from skip_exp.skill.skill import Skill
from tests.helpers.toy import rarely, toy_job

QUICK = ["tune.lora_lr=0.02", "retune.lora_lr=0.02", "retune.budget=0", "retune.epochs=2"]
BOTH = ["tune.train=lora", "retune.train=lora", *QUICK]


@pytest.fixture
def finals(monkeypatch: pytest.MonkeyPatch) -> list[SoftPromptModel]:
    """The final model of every job."""
    found: list[SoftPromptModel] = []
    finish = pipeline.finish

    def noted(*given: Any, **models: Any) -> Any:
        found.append(models["final"])
        return finish(*given, **models)

    monkeypatch.setattr(pipeline, "finish", noted)
    return found


@pytest.mark.parametrize(
    "asked",
    [
        [*BOTH, "retune.lr=0.1", "prune.ratio=0"],  # the dense model's as many updates
        *rarely(["tune.train=lora", "prune.ratio=0.5"], [*BOTH, "prune.ratio=0.5"]),
        [*BOTH, "prune.ratio=0.7", "retune.copies=2"],
        ["experiment=lora"],
    ],
)
def test_the_skill_is_the_model_that_was_scored(
    toy: list[str], tmp_path: Path, asked: list[str], finals: list[SoftPromptModel]
) -> None:
    result = pipeline.run(toy_job(toy, tmp_path, "run", *QUICK, *asked))
    skill, final = Skill.load(tmp_path / "run/skill"), finals[0]
    factors = trained.list_factors(final.backbone)
    assert any(factor.abs().max() > 0 for factor in factors[::2])  # every B starts at 0
    assert (skill.about.train, skill.about.rank) == ("lora", 8)
    assert not trained.list_updates(skill.model)
    scored = dict(final.named_parameters())
    served = dict(skill.model.named_parameters())
    assert all(served[name].equal(scored[name]) for name in served)
    # Merged, they are no parameters any more.
    assert result["params"]["all_after"] == sum(p.numel() for p in served.values())
    if asked[-1] == "prune.ratio=0":
        assert result["params"]["all_before"] == result["params"]["all_after"]
        # Two layers: q, k, v and o of 24 to 24, FFN of 24 to 20 and back.
        assert sum(f.numel() for f in factors) == 8 * 2 * (4 * (24 + 24) + 2 * (24 + 20))


def test_a_tuned_model_comes_back_from_the_cache(toy: list[str], tmp_path: Path) -> None:
    jobs = [prepare(toy_job(toy, tmp_path, name, *BOTH)) for name in ("a", "b")]
    (first, missed), (second, hit) = (tune(job) for job in jobs)
    assert (missed, hit) == ("miss", "hit")
    dense, again = first.value, second.value
    merged, cached = dense.state_dict(), again.state_dict()
    assert merged.keys() == cached.keys() and all(merged[n].equal(cached[n]) for n in merged)
    state = trainable_state(dense)
    assert sum(name.endswith(trained.FACTORS) for name in state) == 2 * 2 * 6
    fresh = prepare(toy_job(toy, tmp_path, "c", *BOTH)).new_model()  # the backbone is as it was
    with torch.no_grad():
        update = dense.backbone.state_dict()["encoder.layer.0.output.dense.weight"]
        assert not update.equal(fresh.backbone.state_dict()["encoder.layer.0.output.dense.weight"])
