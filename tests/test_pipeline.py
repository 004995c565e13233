"""Whole jobs on a tiny random model and a task of the user's own."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from skip_exp import pipeline
from skip_exp.commands import benchmark
from skip_exp.config.schema import Config
from skip_exp.data.module import TextDataModule
from skip_exp.errors import SkipError
from skip_exp.job.job import phase_seed
from skip_exp.job.prepare import prepare
from skip_exp.phases import sublayers
from skip_exp.phases.fit import teacher_logits
from skip_exp.phases.tune import tune
from skip_exp.pruning import latency
from skip_exp.skill.load import Skill
from skip_exp.utils.machine import processor
from tests.helpers.toy import SMALL, composed, rarely

WORDS = ["good", "fine", "great", "bad", "poor", "awful", "film", "plot", "the", "a", "was"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers with a word-level tokenizer, as a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("tiny-bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate(special + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **dict(zip(names, special, strict=True))
    ).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=40,
        ),
        add_pooling_layer=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of a two-class task over CSV files: is the adjective a good one?"""
    folder = tmp_path_factory.mktemp("task")
    rng = random.Random(0)
    for split, rows in (("train", 120), ("validation", 40)):
        lines = ["text,label"]
        for i in range(rows):
            label = i // 2 % 2  # every tenth row is the selection slice: it has both classes
            adjective = rng.choice(WORDS[:3] if label else WORDS[3:6])
            lines.append(f"the {rng.choice(WORDS[6:8])} was {adjective},{label}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return [
        "task.name=adjectives",
        f"+task.files.train={folder}/train.csv",
        f"+task.files.validation={folder}/validation.csv",
        "task.text=[text]",
        "task.labels=[bad,good]",
        "task.metrics=[accuracy,f1]",
    ]


Make = Callable[..., Config]


@pytest.fixture(scope="module")
def toy(backbone: Path, task: list[str], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``toy(folder, *overrides)``: a job; all of them share a cache, hence one tuned prompt."""
    cache = tmp_path_factory.mktemp("cache")

    def make(folder: Path, *overrides: str) -> Config:
        return composed(
            *task,
            "backbone.name=tiny",
            f"backbone.path={backbone}",
            *SMALL,
            "tune.epochs=25",
            "tune.lr=0.02",
            "tune.readout_lr=0.03",
            "tune.patience=25",
            "retune.epochs=2",
            "attribution.samples=32",
            "logger=none",
            f"cache.dir={cache}",
            f"output_dir={folder}",
            *overrides,
        )

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
    return [
        result[key]
        for key in (
            "metric",
            "metrics",
            "select",
            "params",
            "keep_sizes",
            "flops",
        )
    ]


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
    assert stored["n_eval"] == 40
    assert stored["latency"]["device"] == processor()  # "cpu" would not tell two of them apart
    assert all(width % 4 == 0 for site, (width, _) in stored["keep_sizes"].items() if "ffn" in site)
    assert (folder / "keep.png").stat().st_size > 0
    assert (folder / "skill" / "skill.safetensors").exists()
    resolved: Any = OmegaConf.load(folder / "config.yaml")
    assert resolved.output_dir == str(folder)
    assert json.dumps(OmegaConf.to_container(resolved)) == json.dumps(stored["config"])


def test_other_ratios_tune_and_attribute_once(done: Any, job: Make) -> None:
    other = pipeline.run(job("prune.ratio=0.6", folder="b"))
    assert other["cache"] == {"tune": "hit", "attribution": "hit"}
    assert other["metric"]["dense"] == done["metric"]["dense"]
    cold = pipeline.run(job("prune.ratio=0.6", "cache.dir=null", folder="c"))
    assert numbers(cold) == numbers(other)  # a hit and a miss agree


def test_a_finished_job_is_not_run_again(
    done: Any, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_phases", lambda _: pytest.fail("ran again"))
        skip = ("sweep.skip_done=true", "benchmark.enabled=true")
        again = pipeline.run(job("prune.ratio=0.5", *skip, folder="b"))
    assert again["reused"] is True
    assert numbers(again) == numbers(done)
    assert Path(again["skill"]).is_dir()
    forced = pipeline.run(job("prune.ratio=0.5", folder="c"))
    assert forced["reused"] is False
    assert numbers(forced) == numbers(done)


@pytest.mark.parametrize("train", ["bias", *rarely("prompt", "prompt_readout")])
def test_the_skill_file_gives_the_final_model_back(job: Make, tmp_path: Path, train: str) -> None:
    result = pipeline.run(job("prune.ratio=0.5", f"retune.train={train}", "retune.lr=0.05"))
    assert result["method"]["train"] == train
    skill = Skill.load(tmp_path / "run" / "skill")
    file = Path(job().task.files["validation"])
    rows = [line.rsplit(",", 1) for line in file.read_text().splitlines()[1:]]
    answers = skill.predict([text for text, _ in rows])
    hits = [a["label"] == ["bad", "good"][int(y)] for a, (_, y) in zip(answers, rows, strict=True)]
    assert sum(hits) / len(hits) == pytest.approx(result["metric"]["final"])


def test_ratio_zero_is_the_identity(job: Make) -> None:
    result = pipeline.run(job("prune.ratio=0", "retune.enabled=false"))
    assert result["metric"]["final"] == result["metric"]["pruned"] == result["metric"]["dense"]
    assert result["params"]["block_pruned"] == result["params"]["all_pruned"] == 0
    assert result["flops"]["ratio"] == 1


@pytest.mark.parametrize("train", ["bias", "full"])
def test_baselines_of_another_size(job: Make, tmp_path: Path, train: str) -> None:
    prompt = "none" if train == "full" else "prefix"
    given = [f"tune.train={train}", "tune.bias_lr=0.01", f"prompt={prompt}"]
    backbone = prepare(job()).backbone.model
    shared = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    result = pipeline.run(job("prune.ratio=0", "retune.enabled=false", *given))
    assert result["metric"]["final"] == result["metric"]["dense"] >= 0.9
    skill = Skill.load(tmp_path / "run" / "skill")
    assert evaluate_skill(skill, job) == pytest.approx(result["select"]["final"])
    assert all(torch.equal(t, shared[n]) for n, t in backbone.state_dict().items())


def test_the_teacher_is_the_dense_model_once(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["retune.distill=1.0", "tune.epochs=1", "retune.epochs=1"]
    first = prepare(job(*given))
    dense, _ = tune(first, None)
    found = teacher_logits(first, dense)
    rows = first.data.train
    assert found.shape == (len(rows), 2)
    inputs = torch.tensor([rows[3]["input_ids"]])
    with torch.no_grad():
        expected = dense(inputs, torch.ones_like(inputs))
    assert torch.allclose(found[3], expected[0], atol=1e-5)
    monkeypatch.setattr(TextDataModule, "of_train_rows", lambda *_: pytest.fail("answered again"))
    assert pipeline.run(job(*given))["method"]["distill"] == 1


def test_retuning_never_ends_below_its_start(job: Make) -> None:
    result = pipeline.run(job("prune.ratio=0.8", "retune.lr=5.0"))
    assert result["select"]["final"] >= result["select"]["pruned"]


def test_what_is_cheap_to_re_tune_is_re_tuned_for_longer(job: Make, done: Any) -> None:
    cut = ["prune.ratio=0.8", "retune.patience=1"]  # and retune.epochs=2
    result = pipeline.run(job(*cut, "retune.budget=1.2"))
    before, after = (result["flops"][which] for which in ("before", "after"))
    assert 0.2 < 0.03 + 0.97 * after / before < 0.3  # of texts of another length, but about that
    assert result["method"]["epochs"] == 4  # 2 x floor(1.2 / (2 x 0.2...))
    by_hand = ["retune.epochs=4", "retune.patience=2", "retune.budget=0"]
    assert numbers(pipeline.run(job(*cut, *by_hand, folder="by hand"))) == numbers(result)
    assert done["method"]["epochs"] == 2


@pytest.mark.parametrize(
    "overrides",
    [
        ["prune.allocation=uniform", "prune.sites=[ffn,heads,qk,vo]"],
        ["backbone.pooling=cls", "prompt.init=text"],
        ["retune.distill=0", "retune.distill_hidden=0.5"],
        ["prompt=input", "attribution=random"],
        *rarely(["prompt=none"], ["retune.distill=0.5"]),
    ],
)
def test_variants_run(job: Make, overrides: list[str]) -> None:
    result = pipeline.run(job("prune.ratio=0.4", "tune.epochs=1", "retune.epochs=1", *overrides))
    assert result["params"]["block_pruned"] == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize(
    ("recipe", "trained"), [("readout", "prompt_readout"), ("finetune", "full")]
)
def test_recipes_of_baselines_cut_nothing(job: Make, recipe: str, trained: str) -> None:
    result = pipeline.run(job(f"experiment={recipe}", "tune.epochs=1"))
    assert (result["prompt"]["kind"], result["config"]["tune"]["train"]) == ("none", trained)
    assert result["params"]["block_pruned"] == 0
    assert result["metric"]["final"] == result["metric"]["dense"]


@pytest.mark.parametrize(
    "overrides",
    [  # the first is the one that the message names
        *("prune.ratio=1.0", "prune.ratio=1.5", "prune.ratio=nan", "prune.ratio=abc"),
        *("prune.ratio=0.9 prune.sites=[ffn]", "prune.ratio=0.99 prune.sites=[heads]"),
        *("prune.ratio=auto", "prune.max_drop=1.0 prune.ratio=0.5", "prune.target_speedup=0.5"),
        *("prune.max_drop=-0.5 prune.ratio=auto", "prune.max_drop=nan prune.ratio=auto"),
        "prune.target_speedup=2.0 prune.ratio=auto prune.max_drop=1",
        *("prune.allocation=best", "prune.steps=0", "prune.steps=2 prune.target_speedup=2"),
        *("prune.step_epochs=-1", "prune.step_epochs=1 prune.steps=2 retune.enabled=false"),
        *("data.max_length=50", "data.max_length=12 prompt=input prompt.length=30"),
        *("data.max_length=1", "prompt.length=41", "prompt.length=5000", "prompt.length=0"),
        *("backbone.family=gpt", "backbone.path=./nowhere"),
        *("attribution._target_=no.where", "prompt.kind=none tune.train=prompt"),
        "attribution.options.depth=3 +attribution.options.depth=3",
        *("tune.epochs=0", "tune.lr=1e+30", "tune.train=all", "tune.train=full"),
        *("retune.train=full", "trainer.precision=8", "trainer.accelerator=tpu9"),
        *("benchmark.batch=0", "benchmark.seq_len=41"),
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


def test_a_loss_that_is_no_number_ends_the_job(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cross_entropy = "skip_exp.training.module.F.cross_entropy"
    monkeypatch.setattr(cross_entropy, lambda logits, _: logits.sum() * float("nan"))
    with pytest.raises(SkipError, match=r"^tune\.lr=\S+: .* nan .* 0"):
        pipeline.run(job("cache.dir=null"))


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

    monkeypatch.setattr(benchmark, "compare", compare)
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


@pytest.mark.parametrize("train", ["prompt", "prompt_readout"])
def test_what_tuning_trains(job: Make, train: str) -> None:
    model = prepare(job(f"tune.train={train}")).new_model()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == set(train.split("_"))


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


@pytest.mark.parametrize("allocation", ["global", *rarely("uniform")])
def test_a_speed_up_asked_for(job: Make, allocation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def linear(model: Any, inputs: Any) -> latency.Table:
        sites = {
            site: latency.Timing([0, size[-1]], [0.0, 1.0])
            for shape in model.shapes()
            for site, size in shape.sites().items()
        }
        return latency.Table(len(model.shapes()) + 1.0, sites)

    monkeypatch.setattr(sublayers, "measure", linear)
    result = pipeline.run(job("prune.target_speedup=2", f"prune.allocation={allocation}"))
    kept = [kept / of for kept, of in result["keep_sizes"].values()]
    predicted = (len(kept) + 1) / (sum(kept) + 1)
    assert 1.95 < predicted < 2.6  # few units: steps are coarse
    assert result["method"]["target_speedup"] == 2
    assert result["method"]["table"]["speedup"] == pytest.approx(predicted)
    assert result["ratio"] == pytest.approx(result["ratio_reached"], abs=1e-3)


@pytest.mark.slow
def test_a_job_imports_only_what_every_job_needs() -> None:
    """Each costs a third of a second or more; lightning and torchmetrics bring the rest."""
    code = "import sys, skip_exp.__main__, skip_exp.pipeline; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.split())
    assert "lightning" in loaded
    assert not loaded & {"peft", "wandb", "datasets", "onnx", "onnxruntime", "captum"}
