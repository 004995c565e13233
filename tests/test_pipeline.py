"""Whole jobs on tiny random models and a task of one's own; a frozen backbone stays as it is."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from skip_exp import pipeline
from skip_exp.config.schema import Config
from skip_exp.errors import SkipError
from skip_exp.models.surgery import cut
from skip_exp.phases import fit
from skip_exp.phases.build import phase_seed
from skip_exp.phases.fit import tune
from skip_exp.phases.prepare import prepare
from skip_exp.skill.skill import Skill
from skip_exp.utils.machine import processor
from tests.helpers.saved import save_backbone
from tests.helpers.tiny import READOUT
from tests.helpers.toy import rarely, save_toy, toy_job

Make = Callable[..., Config]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``toy(folder, *overrides)``: a job; all of them share a cache, hence one tuned prompt."""
    root = tmp_path_factory.mktemp("toy")
    own = [*save_toy(root), "tune.lr=0.05", "tune.readout_lr=0.03"]
    quick = ["data.train_rows=160", "tune.epochs=8", "retune.epochs=2", "benchmark.enabled=true"]

    def make(folder: Path, *overrides: str) -> Config:
        return toy_job(own, root, str(folder), *quick, *overrides)

    return make


@pytest.fixture(scope="module")
def done(toy: Make, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of the first whole job, which finds an empty cache."""
    return pipeline.run(toy(tmp_path_factory.mktemp("first") / "run", "prune.ratio=0.5"))


@pytest.fixture
def job(toy: Make, done: Any, tmp_path: Path) -> Make:
    """``job(*overrides)``: one that is run though it may be finished, and is not timed."""

    def make(*overrides: str, folder: str = "run") -> Config:
        quick = ("benchmark.enabled=false", "sweep.skip_done=false")
        return toy(tmp_path / folder, *quick, *overrides)

    return make


def numbers(result: Any) -> Any:
    """What must be the same when a job is run again."""
    keys = ("metric", "metrics", "select", "params", "keep_sizes", "flops")
    return [result[key] for key in keys]


@pytest.mark.core
def test_a_whole_job(done: Any) -> None:
    folder = Path(done["config"]["output_dir"])
    stored = json.loads((folder / "result.json").read_text())
    assert numbers(stored) == numbers(done.to_dict())
    assert stored["status"] == "done"
    assert stored["data_is_sample"] is False
    assert stored["metric"]["name"] == "accuracy"
    assert stored["metric"]["dense"] > 0.8  # a word that decides, seen in training
    assert stored["params"]["block_pruned"] == pytest.approx(0.5, abs=0.03)
    assert stored["params"]["block_pruned"] > 0
    assert 0 < stored["params"]["all_pruned"] < stored["params"]["block_pruned"]
    assert stored["cache"] == {"tune": "miss", "attribution": "miss"}
    phases = {"tune", "attribute", "prune", "retune", "test", "benchmark"}
    assert stored["seconds"].keys() == phases | {"total"}
    assert (stored["n_eval"], stored["train_rows"]) == (100, 160)
    assert stored["latency"]["device"] == processor()  # "cpu" would not tell two of them apart
    assert all(width % 4 == 0 for site, (width, _) in stored["keep_sizes"].items() if "ffn" in site)
    assert (folder / "keep.png").stat().st_size > 0
    assert (folder / "skill" / "skill.safetensors").exists()
    resolved: Any = OmegaConf.load(folder / "config.yaml")
    assert resolved.output_dir == str(folder)
    assert json.dumps(OmegaConf.to_container(resolved)) == json.dumps(stored["config"])


@pytest.mark.parametrize(
    ("overrides", "left_out"),
    [
        ([], set()),
        (["benchmark.enabled=false"], {"benchmark"}),
        (["retune.enabled=false"], {"retune"}),
    ],
)
def test_the_phases_that_a_job_has(toy: Make, overrides: list[str], left_out: set[str]) -> None:
    every = ["tune", "attribute", "prune", "retune", "test", "benchmark"]
    asked = toy(Path("here"), *overrides)
    assert pipeline.phases(asked) == [phase for phase in every if phase not in left_out]


def test_other_ratios_tune_and_attribute_once(done: Any, job: Make) -> None:
    other = pipeline.run(job("prune.ratio=0.6", folder="b"))
    assert other["cache"] == {"tune": "hit", "attribution": "hit"}
    assert other["metric"]["dense"] == done["metric"]["dense"]
    cold = pipeline.run(job("prune.ratio=0.6", "cache.dir=null", folder="c"))
    assert numbers(cold) == numbers(other)  # a hit and a miss agree


@pytest.mark.parametrize(
    ("asked", "trained"),
    [
        (["experiment=readout"], "prompt_readout"),
        (["experiment=finetune", "tune.full_lr=0.01"], "full"),
        (["experiment=lora"], "lora"),
    ],
)
def test_baselines_cut_nothing(job: Make, tmp_path: Path, asked: list[str], trained: str) -> None:
    cfg = job(*asked, "tune.epochs=2")
    backbone = prepare(cfg).backbone.model
    shared = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    result = pipeline.run(cfg)
    assert result["config"]["tune"]["train"] == trained
    assert result["metric"]["final"] == result["metric"]["pruned"] == result["metric"]["dense"]
    assert result["params"]["block_pruned"] == result["params"]["all_pruned"] == 0
    assert result["flops"]["ratio"] == 1
    skill = Skill.load(tmp_path / "run" / "skill")
    scores = skill.evaluate(cfg.task.files["validation"])
    assert scores["accuracy"] == pytest.approx(result["metric"]["final"])
    assert all(torch.equal(t, shared[n]) for n, t in backbone.state_dict().items())


def test_the_teacher_is_the_dense_model_once(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["retune.distill=1.0", "tune.epochs=1", "retune.epochs=1", "retune.copies=1"]
    first = pipeline.run(job(*given))
    asked = prepare(job(*given, "prune.ratio=0.3"))
    dense, _ = tune(asked)
    texts, train = asked.student_rows.value, len(asked.data.train)
    assert len(texts) == 2 * train
    arguments = {"dense": dense, "data": asked.dense_arguments["data"], "texts": asked.student_rows}
    monkeypatch.setattr(fit, "ask", lambda *_: pytest.fail("answered again"))
    teacher = asked.cache.stage(fit.ask_teacher, asked.trainer, **arguments).tensors["logits"]
    assert teacher.shape == (2 * train, 2)
    for place in (3, train + 3):
        inputs = torch.tensor([texts[place]["input_ids"]])
        with torch.no_grad():
            expected = dense.value(inputs, torch.ones_like(inputs))
        assert torch.allclose(teacher[place], expected[0], atol=1e-5)
    assert first["config"]["retune"]["distill"] == 1


def test_retuning_never_ends_below_its_start(job: Make) -> None:
    result = pipeline.run(job("prune.ratio=0.8", "retune.lr=5.0"))
    assert result["select"]["final"] >= result["select"]["pruned"]


def test_what_is_cheap_to_re_tune_is_re_tuned_for_longer(job: Make, done: Any) -> None:
    result = pipeline.run(job("prune.ratio=0.8", "retune.budget=1.2"))
    before, after = (result["flops"][which] for which in ("before", "after"))
    assert 0.2 < 0.03 + 0.97 * after / before < 0.3  # of texts of another length, but about that
    assert result["epochs"] == 4  # 2 x floor(1.2 / (2 x 0.2...))
    assert done["epochs"] == 2


@pytest.mark.parametrize(
    "overrides",
    [
        [
            *("prune.allocation=uniform", "prune.sites=[heads,ffn]", "prompt=input"),
            *("attribution=random", "retune.distill=0"),
            *("tune.train=prompt_readout", "retune.train=lora"),
        ],
        ["backbone.pooling=cls", "prompt.init=vocab", "retune.copies=2"],
        *rarely(["prompt=none"], ["retune.distill=0.5"]),
    ],
)
def test_variants_run(job: Make, overrides: list[str]) -> None:
    result = pipeline.run(job("prune.ratio=0.4", "tune.epochs=1", "retune.epochs=1", *overrides))
    assert result["params"]["block_pruned"] == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize(
    "overrides",
    [  # the first is the one that the message names; more in tests/config
        *("prune.ratio=0.9 prune.sites=[ffn]", "prune.ratio=0.99 prune.sites=[heads]"),
        *("data.max_length=80", "data.max_length=12 prompt=input prompt.length=60"),
        *("prompt.length=65", "benchmark.seq_len=65", "backbone.path=./nowhere"),
        *("attribution._target_=no.where",),
        "attribution.options.depth=3 +attribution.options.depth=3",
    ],
)
def test_refused_before_any_work(
    job: Make, overrides: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "run_phases", lambda *_: pytest.fail("worked"))
    named, *more = overrides.split()
    given = more if any(named in other for other in more) else [named, *more]
    with pytest.raises(SkipError) as refused:
        pipeline.run(job(*given))
    assert str(refused.value).startswith(f"{named}: ") and "\n" not in str(refused.value)


def test_phases_have_seeds_of_their_own() -> None:
    seeds = {phase_seed(seed, phase) for seed in (1, 2) for phase in ("tune", "retune", "init")}
    assert len(seeds) == 6
    assert phase_seed(1, "tune") == phase_seed(1, "tune") < 2**32


@pytest.mark.slow
def test_a_job_imports_only_what_every_job_needs() -> None:
    """Each costs a third of a second or more; lightning brings the rest, which no skill needs."""
    code = "import sys, skip_exp.skill.skill; print(*sys.modules)"
    code += "; import skip_exp.__main__, skip_exp.pipeline; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    skill, loaded = (set(line.split()) for line in found.stdout.splitlines())
    assert "lightning" in loaded - skill
    assert not loaded & {"wandb", "datasets", "onnx", "onnxruntime", "captum"}


@pytest.mark.parametrize("kind", ["bert", "modernbert", "t5_gated", *rarely("roberta", "t5")])
def test_what_is_left_of_the_backbone_is_as_it_was(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = save_toy(tmp_path)
    save_backbone(tmp_path / "backbone", kind)
    toy += [f"backbone.family={kind.split('_')[0]}", f"backbone.readout={READOUT[kind]}"]
    toy += ["task.words=[bad,good]", "data.train_rows=40", "prune.ratio=0.4"]
    toy += ["tune.train=prompt_readout", "tune.lr=0.5", "retune.lr=0.5"]
    cfg = toy_job(toy, tmp_path, "run")
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
