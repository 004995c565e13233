"""Whole jobs on the first layers of a backbone, from the start or after tuning."""

from pathlib import Path

import pytest
import torch

from skip_exp import Skill, SkipForSequenceClassification, pipeline
from skip_exp.commands.benchmark import retime
from skip_exp.models.shapes import shapes_of
from skip_exp.phases.prepare import prepare
from skip_exp.report import frame, tables
from tests.helpers.toy import SMALL, toy_job


@pytest.mark.slow
def test_a_part_of_a_backbone_is_compared_with_the_whole(toy: list[str], tmp_path: Path) -> None:
    more = ["attribution=magnitude", "prune.ratio=0", "benchmark.enabled=true"]
    whole = pipeline.run(cfg := toy_job(toy, tmp_path, "whole", *more))
    half = pipeline.run(toy_job(toy, tmp_path, "half", *more, "backbone.layers=1"))
    assert (whole["backbone"], half["backbone"]) == ("tiny", "tiny[1 layer]")
    assert half["cache"] == {"tune": "miss", "attribution": "miss"}
    before, after = (half["params"][f"block_{when}"] for when in ("before", "after"))
    assert before == whole["params"]["block_before"] == 2 * after
    assert half["params"]["block_pruned"] == 0.5
    assert 0 < half["params"]["all_pruned"] < 0.5
    assert (half["ratio"], half["ratio_reached"]) == (0, 0)
    assert half["flops"]["before"] == whole["flops"]["before"] > 1.5 * half["flops"]["after"]
    skill = Skill.load(tmp_path / "half/skill")
    assert skill.about.backbone.name == "tiny[1 layer]"
    assert {shape.name.layer for shape in shapes_of(skill.model)} == {0}
    assert retime(tmp_path / "half/result.json")["dense_ms"] > 0
    notes = tables.job_notes(frame.load([tmp_path / "half"]))
    assert "reached" not in notes[0]
    every = prepare(toy_job(toy, tmp_path, "every", *more, "backbone.layers=2"))
    assert every.backbone.content_hash == prepare(cfg).backbone.content_hash  # one tuned prompt
    assert every.key != whole["job_id"]


def test_a_part_can_be_cut_like_a_whole(toy: list[str], tmp_path: Path) -> None:
    cfg = toy_job(toy, tmp_path, "job", "backbone.layers=1", "prune.ratio=0.5")
    result = pipeline.run(cfg)
    assert result["ratio_reached"] == pytest.approx(0.5, abs=0.1)
    assert result["params"]["block_pruned"] == pytest.approx(0.75, abs=0.05)
    assert set(result["keep_sizes"]) == {"encoder.0.ffn", "encoder.0.self.heads"}


@pytest.mark.parametrize("recipe", ["skip", "skip retune.train=lora", "strong"])
def test_later_layers_go_after_tuning(toy: list[str], tmp_path: Path, recipe: str) -> None:
    """They count towards the ratio, and the skill and its exports do without them."""
    own = [*f"experiment={recipe}".split(), *SMALL, "tune.epochs=1", "retune.epochs=1"]
    own += ["retune.copies=1", "prune.layers=1", "prune.ratio=0.7"]
    result = pipeline.run(toy_job(toy, tmp_path, "job", *own))
    assert result["ratio_reached"] == result["params"]["block_pruned"] <= 0.7
    assert result["ratio_reached"] > 0.6 and result["config"]["prune"]["layers"] == 1
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
    assert retime(tmp_path / "job/result.json")["dense_ms"] > 0
