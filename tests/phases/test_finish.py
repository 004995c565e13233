"""The skill that a job leaves is the model that it scored, whatever was trained or cut."""

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from skip_exp import SkipForSequenceClassification, pipeline
from skip_exp.models import trained
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.trained import trainable_state
from skip_exp.outcomes import registry
from skip_exp.phases.fit import tune
from skip_exp.phases.prepare import prepare
from skip_exp.results import PREDICTIONS
from skip_exp.skill.files import read_skill
from skip_exp.skill.skill import Skill
from tests.helpers.toy import SMALL, rarely, toy_job


@pytest.mark.parametrize(
    ("tuned", "retuned", "enabled", "ratio", "held"),
    [
        ("bias", "bias", False, 0, "bias"),
        ("gates", "gates", True, 0.5, "gates"),
        ("prompt_readout", "bias", True, 0.5, "bias"),
        pytest.param("full", "prompt_readout", False, 0, "full", marks=pytest.mark.slow),
        pytest.param("prompt_readout", "full", True, 0.5, "full", marks=pytest.mark.slow),
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
        held in ("bias", "gates", "layers", "full")
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
        *rarely(["experiment=lora"]),
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


@pytest.mark.parametrize(
    "recipe", ["skip", "strong", *rarely("skip tune.train=prompt_readout retune.train=lora")]
)
def test_later_layers_go_after_tuning(toy: list[str], tmp_path: Path, recipe: str) -> None:
    """They count towards the ratio, and the skill and its exports do without them."""
    own = [*f"experiment={recipe}".split(), *SMALL, "tune.epochs=1", "retune.epochs=1"]
    own += ["retune.copies=1", "prune.layers=1", "prune.ratio=0.7", "benchmark.enabled=true"]
    result = pipeline.run(toy_job(toy, tmp_path, "job", *own))
    assert (
        0.6 < result["params"]["block_pruned"] <= 0.7 and result["config"]["prune"]["layers"] == 1
    )
    left = {site: kept for site, (kept, _) in result["keep_sizes"].items()}
    assert left["encoder.1.ffn"] == left["encoder.1.self.heads"] == 0 < left["encoder.0.ffn"]
    skill, texts = Skill.load(tmp_path / "job/skill"), ["the plot was warm", "bad"]
    rows = dict(each.split("=", 1) for each in toy)["+task.files.validation"]
    assert skill.evaluate(rows)["accuracy"] == pytest.approx(result["metric"]["final"])
    alone = SkipForSequenceClassification.from_pretrained(skill.export(tmp_path / "hf"))
    assert alone.config.backbone["num_hidden_layers"] == len(alone.blocks()) / 2 == 1
    inputs = skill.tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        torch.testing.assert_close(alone(**inputs).logits, skill.model(**inputs))
    assert result["latency"]["dense_ms"] > 0
