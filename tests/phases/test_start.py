"""Tuning that starts from a finished dense skill, on a tiny random BERT."""

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from skip_exp import pipeline
from skip_exp.backbones import embedded
from skip_exp.backbones.load import load_backbone
from skip_exp.config.schema import conf_dir
from skip_exp.errors import ConfigError, SkipError
from skip_exp.models.trained import trainable_state
from skip_exp.phases.build import find_start
from skip_exp.phases.prepare import prepare
from skip_exp.skill.files import read_skill, split, write_skill
from skip_exp.skill.record import TENSORS
from tests.helpers.saved import save_backbone
from tests.helpers.toy import composed, toy_job

LORA = ["tune.train=lora", "tune.lora_lr=0.02", "tune.rank=2", "retune.rank=2"]
QUICK = ["attribution=magnitude", "retune.enabled=false", "seed=2"]


@pytest.fixture(scope="module")
def skills(toy: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the skills ``dense``, ``pruned`` and ``prompt`` (without updates)."""
    root = tmp_path_factory.mktemp("skills")
    for name, asked in {
        "dense": [*LORA, "prune.ratio=0"],
        "pruned": [*LORA, "prune.ratio=0.5"],
        "prompt": ["tune.train=prompt_readout", "prune.ratio=0"],
    }.items():
        pipeline.run(toy_job(toy, root, name, *QUICK, *asked, "seed=1"))
    return root


def state_of(skill: Path) -> Any:
    return split(read_skill(skill)[1])[1]


@pytest.fixture
def job(toy: list[str], tmp_path: Path) -> Any:
    return partial(toy_job, toy, tmp_path, "run", *QUICK)


def test_a_model_starts_from_prompt_and_updates_with_a_new_readout(job: Any, skills: Path) -> None:
    model = prepare(job(*LORA, f"tune.start={skills}/dense")).new_model()
    fresh = prepare(job(*LORA)).new_model()
    own, new, old = map(trainable_state, (model, fresh, model))
    start = state_of(skills / "dense/skill")
    for name, tensor in own.items():
        source = new if name.startswith("readout.") else start
        assert tensor.equal(source[name]), name
    assert not own["prompt.keys.0"].equal(new["prompt.keys.0"])
    block = "backbone.encoder.layer.0.output.dense"
    update = start[f"{block}.lora_B"] @ start[f"{block}.lora_A"]
    weights = [dict(m.named_parameters())[f"{block}.weight"] for m in (model, fresh)]
    assert update.abs().max() > 0 and weights[0].equal(weights[1] + update)  # merged
    assert old.keys() == start.keys()


@pytest.mark.parametrize("train", ["layers", "full"])
def test_weights_start_with_the_updates_of_a_skill_inside(
    job: Any, skills: Path, train: str
) -> None:
    plain = prepare(job(f"tune.train={train}")).new_model().state_dict()
    started = prepare(job(f"tune.train={train}", f"tune.start={skills}/dense")).new_model()
    found, start = started.state_dict(), state_of(skills / "dense/skill")
    assert found.keys() == plain.keys()
    block = next(name for name in start if name.endswith("lora_A")).removesuffix(".lora_A")
    update = start[f"{block}.lora_B"] @ start[f"{block}.lora_A"]
    torch.testing.assert_close(found[f"{block}.weight"] - plain[f"{block}.weight"], update)
    assert dict(started.named_parameters())[f"{block}.weight"].requires_grad


def test_a_start_brings_a_prompt_of_its_own_length(job: Any, skills: Path) -> None:
    found = prepare(job(*LORA, f"tune.start={skills}/dense", "prompt.length=3"))
    assert found.cfg.prompt.length == 4 and found.new_model().prompt.keys[0].shape[0] == 4


def test_updates_may_start_from_a_prompt_alone(job: Any, skills: Path) -> None:
    start = state_of(skills / "prompt/skill")
    for train in (["tune.train=prompt_readout"], LORA):
        model = prepare(job(*train, f"tune.start={skills}/prompt")).new_model()
        own = trainable_state(model)
        assert own["prompt.values.1"].equal(start["prompt.values.1"])
        assert own.keys() >= start.keys()


def test_the_start_is_part_of_the_job(
    job: Any, skills: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = shutil.copytree(skills / "dense/skill", tmp_path / "here")
    asked = [*LORA, "prune.ratio=0", f"tune.start={start}"]
    caplog.set_level(logging.INFO, "skip_exp")
    result = pipeline.run(job(*asked))
    assert result["start"] == str(start) and str(start) in caplog.text
    assert result["cache"]["tune"] == "miss"
    stored = read_skill(tmp_path / "run/skill")[0]
    assert stored.start == "adjectives"  # its task, not its local path
    moved = shutil.copytree(start, tmp_path / "moved")  # the content counts, not its place
    assert prepare(job(*asked[:-1], f"tune.start={moved}")).key == result["job_id"]
    plain = prepare(job(*asked[:-1]))
    other = prepare(job(*asked[:-1], f"tune.start={skills}/prompt"))
    assert len({result["job_id"], plain.key, other.key}) == 3
    assert plain.dense_arguments["start"] is None and other.dense_arguments["start"].key
    about, tensors = read_skill(moved)
    write_skill(moved, tensors, about.changed(task="another").stored())
    assert prepare(job(*asked[:-1], f"tune.start={moved}")).key != result["job_id"]


@pytest.mark.parametrize(
    ("skill", "asked", "named"),
    [
        ("pruned", LORA, "prune.ratio=0"),
        ("dense", [*LORA, "prompt=input"], "prompt.kind=prefix"),
        ("dense", [*LORA, "tune.rank=3", "retune.rank=3"], "tune.rank=2"),
        ("dense", ["tune.train=prompt_readout"], "tune.train=lora tune.rank=2"),
        ("nowhere", LORA, "folder"),
    ],
)
def test_what_does_not_fit_is_refused(
    job: Any, skills: Path, skill: str, asked: list[str], named: str
) -> None:
    with pytest.raises(SkipError) as refused:
        prepare(job(*asked, f"tune.start={skills / skill}"))
    assert str(refused.value).startswith("tune.start=") and named in str(refused.value)


def test_another_backbone_and_a_damaged_skill_are_refused(
    job: Any, skills: Path, tmp_path: Path
) -> None:
    other = save_backbone(tmp_path / "other", "bert", seed=5)
    with pytest.raises(SkipError, match="backbone"):
        prepare(job(*LORA, f"tune.start={skills}/dense", f"backbone.path={other}"))
    damaged = shutil.copytree(skills / "dense/skill", tmp_path / "damaged")
    content = (damaged / TENSORS).read_bytes()
    (damaged / TENSORS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(SkipError, match="damaged"):
        prepare(job(*LORA, f"tune.start={damaged}"))


def test_the_skill_that_the_task_names_is_taken_where_it_fits(
    job: Any, skills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped skill is in half precision."""
    monkeypatch.setattr(embedded, "SKILLS", tmp_path)
    about, tensors = read_skill(skills / "dense/skill")
    half = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    write_skill(tmp_path / "pairs-tiny", half, about.stored())
    named = ["task.start=pairs"]
    found = prepare(job(*LORA, *named))
    assert found.start and found.start.name == "pairs"
    taken = trainable_state(found.new_model())["prompt.keys.0"]
    torch.testing.assert_close(taken, tensors["prompt.keys.0"], atol=1e-2, rtol=1e-3)
    assert prepare(job(*LORA, "tune.start=pairs")).key == found.key
    without = [[*LORA], [*LORA, *named, "tune.start=null"], [*LORA, "task.start=other"]]
    without += [["tune.train=lora", *named]]  # another rank
    without += [[*LORA, *named, "backbone.name=small"]]  # no such skill
    for asked in without:
        other = prepare(job(*asked))
        assert other.start is None and other.key != found.key


def test_the_skill_of_the_package_fits_the_default_recipe() -> None:
    folder = embedded.find_shipped_skill("nli", "minilm")
    assert folder and embedded.find_shipped_skill("nli", "roberta_mini") is None
    about, tensors = read_skill(folder)
    cfg = composed("+task=rte", "output_dir=here")
    assert (about.prompt.kind, about.prompt.length) == (cfg.prompt.kind, cfg.prompt.length)
    assert about.train == "prompt_readout"  # from which more may be trained
    assert {t.dtype for name, t in tensors.items() if "/" not in name} == {torch.float16}
    tasks = [OmegaConf.load(path) for path in (conf_dir() / "task").glob("*.yaml")]
    named = {task.start for task in tasks if "start" in task}
    assert named and all(embedded.find_shipped_skill(each, "minilm") for each in named)


def test_a_task_never_starts_from_a_skill_that_saw_its_rows() -> None:
    cfg = composed("+task=mnli", "output_dir=here", "tune.start=nli")
    backbone = load_backbone("minilm", "embedded:minilm", "bert", "head")
    with pytest.raises(ConfigError, match=r"^tune\.start=nli: "):
        find_start(cfg, backbone)
    found = find_start(composed("+task=rte", "output_dir=here"), backbone)
    assert found and found.origin == "skip_exp/nli"


def test_only_a_plain_name_is_one_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "nli-minilm").mkdir()
    assert embedded.find_shipped_skill(str(tmp_path / "nli"), "minilm") is None
