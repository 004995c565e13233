"""Whole jobs on a tiny random model and a task of the user's own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from skip_exp import pipeline
from skip_exp.commands import benchmark
from skip_exp.config.schema import Config
from skip_exp.data.module import TextDataModule
from skip_exp.errors import SkipError
from skip_exp.job.job import phase_seed
from skip_exp.job.prepare import prepare
from skip_exp.phases import benchmark as timing_phase
from skip_exp.phases.fit import teacher_of
from skip_exp.phases.tune import tune
from skip_exp.skill.skill import Skill
from skip_exp.training import length
from skip_exp.utils.machine import processor
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


def numbers(result: dict[str, Any]) -> Any:
    """What must be the same when a job is run again."""
    keys = ("metric", "metrics", "select", "params", "keep_sizes", "flops")
    return [result[key] for key in keys]


@pytest.mark.core
def test_a_whole_job(done: Any) -> None:
    folder = Path(done["config"]["output_dir"])
    stored = json.loads((folder / "result.json").read_text())
    assert numbers(stored) == numbers(done)
    assert stored["status"] == "done"
    assert stored["data_is_sample"] is False
    assert stored["metric"]["name"] == "accuracy"
    assert stored["metric"]["dense"] > 0.8  # a word that decides, seen in training
    assert stored["params"]["block_pruned"] == pytest.approx(0.5, abs=0.03)
    assert stored["ratio_reached"] == stored["params"]["block_pruned"]
    assert 0 < stored["params"]["all_pruned"] < stored["params"]["block_pruned"]
    assert stored["cache"] == {"tune": "miss", "attribution": "miss"}
    assert stored["seconds"].keys() == {
        *("tune", "attribute", "prune", "retune", "test", "benchmark", "total")
    }
    assert stored["n_eval"] == 100
    assert stored["latency"]["device"] == processor()  # "cpu" would not tell two of them apart
    assert all(width % 4 == 0 for site, (width, _) in stored["keep_sizes"].items() if "ffn" in site)
    assert (folder / "keep.png").stat().st_size > 0
    assert (folder / "skill" / "skill.safetensors").exists()
    resolved: Any = OmegaConf.load(folder / "config.yaml")
    assert resolved.output_dir == str(folder)
    assert resolved.tune.train == "auto"
    assert stored["config"]["tune"]["train"] == "prompt_readout"  # as the rows decided
    asked: Any = OmegaConf.to_container(resolved)
    for group in ("prompt", "tune", "retune"):
        asked[group] = stored["config"][group]
    assert json.dumps(asked) == json.dumps(stored["config"])


@pytest.mark.parametrize(
    ("overrides", "number", "last"),
    [
        ([], 5, "test"),
        (["benchmark.enabled=true"], 6, "benchmark"),
        (["prune.ratio=auto", "prune.max_drop=1", "benchmark.enabled=true"], 7, "benchmark"),
        (["retune.enabled=false"], 4, "test"),
    ],
)
def test_the_phases_that_a_job_has(job: Make, overrides: list[str], number: int, last: str) -> None:
    phases = pipeline.phases(job(*overrides))
    assert (len(phases), phases[-1]) == (number, last)
    assert ("search" in phases) == ("prune.ratio=auto" in overrides)


def test_phases_are_numbered_and_end_with_their_scores(job: Make, caplog: Any) -> None:
    caplog.set_level("INFO", "skip_exp")
    result = pipeline.run(job("prune.ratio=0.5", "trainer.progress=true"))
    told = [record.getMessage() for record in caplog.records]
    numbered = [line for line in told if line.startswith("[")]
    names = ("tune", "attribute", "prune", "retune", "test")
    assert numbered == [f"[{n}/5] {name}" for n, name in enumerate(names, 1)]
    at = {line.split()[1]: told.index(line) for line in numbered}
    kept = {
        phase: [line for line in told[at[phase] : at[after]] if line.startswith(start)]
        for phase, after, start in (
            ("tune", "attribute", "from the cache: epoch "),
            ("retune", "test", "kept epoch "),
        )
    }
    for phase, state in (("tune", "dense"), ("retune", "final")):
        (line,) = kept[phase]
        assert f": accuracy {100 * result['select'][state]:.1f} " in line
    assert sum(line.startswith("epoch ") for line in told) == 3  # before, first, second
    for state in ("dense", "pruned", "final"):
        scores = [
            f"{name} {100 * result['metrics'][name][state]:.1f}" for name in ("accuracy", "f1")
        ]
        (line,) = (line for line in told[at["test"] :] if line.startswith(f"{state} "))
        assert all(score in line for score in scores)


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
        (["experiment=finetune", "tune.bias_lr=0.01"], "full"),
        (["prune.ratio=0", "retune.enabled=false", "tune.train=bias", "tune.bias_lr=0.01"], "bias"),
    ],
)
def test_baselines_cut_nothing(job: Make, tmp_path: Path, asked: list[str], trained: str) -> None:
    backbone = prepare(job()).backbone.model
    shared = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    result = pipeline.run(job(*asked))
    assert result["config"]["tune"]["train"] == trained
    assert result["metric"]["final"] == result["metric"]["pruned"] == result["metric"]["dense"]
    assert result["params"]["block_pruned"] == result["params"]["all_pruned"] == 0
    assert result["flops"]["ratio"] == 1
    skill = Skill.load(tmp_path / "run" / "skill")
    assert evaluate_skill(skill, job) == pytest.approx(result["select"]["final"])
    assert all(torch.equal(t, shared[n]) for n, t in backbone.state_dict().items())


def test_every_weight_may_be_trained_before_and_after_the_cut(job: Make, tmp_path: Path) -> None:
    backbone = prepare(job()).backbone.model
    shared = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    rates = ["tune.bias_lr=0.01", "retune.bias_lr=0.01", "tune.epochs=2", "retune.epochs=2"]
    result = pipeline.run(job("experiment=full", *rates, "prune.ratio=0.5"))
    assert result["params"]["block_pruned"] > 0.4
    assert result["metric"]["final"] != result["metric"]["pruned"]
    skill = Skill.load(tmp_path / "run" / "skill")
    assert evaluate_skill(skill, job) == pytest.approx(result["select"]["final"])
    assert skill.about.train == "full"
    stored = sum(p.numel() for p in skill.model.parameters())
    assert stored < sum(p.numel() for p in backbone.parameters())
    assert all(torch.equal(t, shared[n]) for n, t in backbone.state_dict().items())
    only_cut = pipeline.run(job("experiment=full", *rates, "retune.enabled=false", folder="cut"))
    skill = Skill.load(tmp_path / "cut" / "skill")
    assert evaluate_skill(skill, job) == pytest.approx(only_cut["select"]["final"])


def test_the_teacher_is_the_dense_model_once(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["retune.distill=1.0", "tune.epochs=1", "retune.epochs=1", "retune.copies=1"]
    first = prepare(job(*given))
    dense, _ = tune(first, None)
    teacher, train = teacher_of(first, dense), len(first.data.train)
    assert teacher is not None
    assert (teacher.shape, len(first.taught)) == ((2 * train, 2), 2 * train)
    for place in (3, train + 3):
        inputs = torch.tensor([first.taught[place]["input_ids"]])
        with torch.no_grad():
            expected = dense(inputs, torch.ones_like(inputs))
        assert torch.allclose(teacher[place], expected[0], atol=1e-5)
    monkeypatch.setattr(TextDataModule, "of_rows", lambda *_: pytest.fail("answered again"))
    assert pipeline.run(job(*given))["method"]["distill"] == 1


def test_retuning_never_ends_below_its_start(job: Make) -> None:
    result = pipeline.run(job("prune.ratio=0.8", "retune.lr=5.0"))
    assert result["select"]["final"] >= result["select"]["pruned"]


def test_what_is_cheap_to_re_tune_is_re_tuned_for_longer(
    job: Make, done: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(length.UPDATES, "retune", (2, 1))
    cut = ["prune.ratio=0.8"]
    result = pipeline.run(job(*cut, "retune.epochs=null", "retune.budget=1.2"))
    before, after = (result["flops"][which] for which in ("before", "after"))
    assert 0.2 < 0.03 + 0.97 * after / before < 0.3  # of texts of another length, but about that
    assert result["method"]["epochs"] == 4  # 2 x floor(1.2 / (2 x 0.2...))
    by_hand = ["retune.epochs=4"]
    assert numbers(pipeline.run(job(*cut, *by_hand, folder="by hand"))) == numbers(result)
    assert done["method"]["epochs"] == 2


def test_few_rows_are_re_tuned_for_longer(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """160 rows are 5 steps per epoch."""
    monkeypatch.setitem(length.UPDATES, "retune", (3, 30))
    few = ["retune.epochs=null", "tune.epochs=1", "prune.ratio=0.3"]
    assert pipeline.run(job(*few))["method"]["epochs"] == 6


@pytest.mark.parametrize(
    "overrides",
    [
        ["prune.allocation=uniform", "prune.sites=[ffn,heads,qk,vo]"],
        ["backbone.pooling=cls", "prompt.init=text"],
        ["retune.distill=0"],
        ["prompt=input", "attribution=random"],
        *rarely(["prompt=none"], ["retune.distill=0.5"]),
    ],
)
def test_variants_run(job: Make, overrides: list[str]) -> None:
    result = pipeline.run(job("prune.ratio=0.4", "tune.epochs=1", "retune.epochs=1", *overrides))
    assert result["params"]["block_pruned"] == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize(
    "overrides",
    [  # the first is the one that the message names
        *("prune.ratio=1.0", "prune.ratio=1.5", "prune.ratio=nan", "prune.ratio=abc"),
        *("prune.ratio=0.9 prune.sites=[ffn]", "prune.ratio=0.99 prune.sites=[heads]"),
        *("prune.ratio=auto", "prune.max_drop=1.0 prune.ratio=0.5", "prune.target_speedup=0.5"),
        *("prune.max_drop=-0.5 prune.ratio=auto", "prune.max_drop=nan prune.ratio=auto"),
        "prune.target_speedup=2.0 prune.ratio=auto prune.max_drop=1",
        *("prune.allocation=best", "retune.copies=-1"),
        *("data.max_length=80", "data.max_length=12 prompt=input prompt.length=60"),
        *("data.max_length=1", "prompt.length=65", "prompt.length=5000", "prompt.length=0"),
        *("backbone.family=gpt", "backbone.path=./nowhere"),
        *("attribution._target_=no.where", "prompt.kind=none tune.train=prompt"),
        "attribution.options.depth=3 +attribution.options.depth=3",
        *("tune.epochs=0", "tune.lr=1e+30", "tune.train=all", "tune.train=full"),
        *("retune.train=full", "trainer.precision=8", "trainer.accelerator=tpu9"),
        *("benchmark.batch=0", "benchmark.seq_len=65"),
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


def test_finished_results_are_timed_again(
    done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run" / "result.json"
    shutil.copytree(Path(done["config"]["output_dir"]), file.parent)
    fields = {"dense_ms": 4.0, "final_ms": 2.0, "speedup": 2.0, "spread": 0.1, "contended": False}
    seen = []

    def compare(dense: Any, final: Any, *_: Any) -> dict[str, Any]:
        sizes = [sum(s.parameters for s in m.shapes()) for m in (dense, final)]
        seen.append(sizes)
        return fields

    monkeypatch.setattr(timing_phase, "compare", compare)
    assert benchmark.main([str(file)]) == 0
    assert "2.00x +- 0.10" in capsys.readouterr().out
    before, after = done["params"]["block_before"], done["params"]["block_after"]
    assert seen == [[before, after]]
    again = json.loads(file.read_text())
    assert again["latency"].items() >= fields.items()
    assert numbers(again) == numbers(done)
    assert benchmark.main([str(tmp_path / "nowhere.json")]) == 1


def test_an_output_folder_that_cannot_be_made_is_refused(job: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SkipError, match=r"^output_dir=.*file/run: "):
        pipeline.run(job(folder="file/run"))


def evaluate_skill(skill: Skill, job: Make) -> float:
    """Accuracy of a loaded skill on the selection slice."""
    rows = prepare(job(folder="eval")).data.select
    right = 0
    for row in rows:
        inputs = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            found = skill.model(inputs, torch.ones_like(inputs)).argmax(-1).item()
        right += found == row["label"]
    return right / len(rows)


@pytest.mark.slow
def test_a_job_imports_only_what_every_job_needs() -> None:
    """Each costs a third of a second or more; lightning and torchmetrics bring the rest."""
    code = "import sys, skip_exp.__main__, skip_exp.pipeline; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.split())
    assert "lightning" in loaded
    assert not loaded & {"peft", "wandb", "datasets", "onnx", "onnxruntime", "captum"}
