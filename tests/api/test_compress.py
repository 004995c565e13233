"""`skip_exp.compress`: a fine-tuned classifier of every family is cut as it is."""

import builtins
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import skip_exp
from skip_exp import Skill, SkipForSequenceClassification
from skip_exp.backbones.load import load_backbone
from skip_exp.commands import train as command
from skip_exp.errors import SkipError
from skip_exp.models.prompts import NoPrompt
from skip_exp.models.readouts import ClassifierReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut
from skip_exp.results import PREDICTIONS
from skip_exp.skill.export.huggingface import to_huggingface
from tests.helpers.hub import serving
from tests.helpers.saved import WORDS, save_backbone, some_keep, tokenizer
from tests.helpers.tiny import KINDS, tiny_backbone
from tests.helpers.toy import SMALL, rarely

TEXTS = ["the film was dull and long", "a plot", "it is not good"]
QUICK = [*SMALL, "attribution.samples=64", "retune.epochs=1", "benchmark.enabled=false"]


def classifier(kind: str, names: Sequence[str] = ("bad", "good"), **changes: Any) -> Any:
    config = tiny_backbone(kind).config
    config.update({"eos_token_id": 1, **changes})
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def ask(model: Any, tokens: Any) -> torch.Tensor:
    with torch.no_grad():
        found = model(**tokens)
    return getattr(found, "logits", found)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    adjectives = (("bad", "dull", "long"), ("good", "warm", "funny"))
    many = [
        (f"the film was {adjectives[i % 2][i % 3]}", ("bad", "good")[i % 2]) for i in range(200)
    ]
    pd.DataFrame(many, columns=["comment", "verdict"]).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


Compress = Callable[..., Skill]


def save(model: Any, folder: Path, family: str = "bert") -> Path:
    """A folder with the model and its tokenizer."""
    model.save_pretrained(folder)
    tokenizer(family).save_pretrained(folder)
    return folder


@pytest.fixture
def compress(rows: Path, tmp_path: Path) -> Compress:
    """``compress(folder, ...)`` on the rows, with quick settings and these overrides."""

    def run(
        model: Any,
        *overrides: str,
        data: Any = rows,
        quick: Sequence[str] = QUICK,
        **options: Any,
    ) -> Skill:
        place = {"text": "comment", "label": "verdict", "output": tmp_path / "out"}
        given = [*quick, *overrides]
        return skip_exp.compress(model, data, overrides=given, **place, **options)

    return run


def load_exported(skill: Skill, folder: Path) -> Any:
    """What transformers makes of the skill's checkpoint."""
    exported = skill.export(folder)
    return AutoModelForSequenceClassification.from_pretrained(
        exported, trust_remote_code=True
    ).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_checkpoints_own_and_cut_those_of_its_export(
    kind: str, tmp_path: Path
) -> None:
    family, original = kind.split("_")[0], classifier(kind)
    save(original, tmp_path, family)
    tokens = tokenizer(family)(TEXTS, padding=True, return_tensors="pt")
    expected = ask(original, tokens)
    b = load_backbone(kind, str(tmp_path), family, "classifier")
    readout = ClassifierReadout.build(b.model, b.family, 2)
    model = SoftPromptModel(b.model, b.family, NoPrompt(), readout).eval()
    torch.testing.assert_close(ask(model, tokens), expected, rtol=0, atol=1e-5)
    alone = [ask(model, tokenizer(family)(text, return_tensors="pt")) for text in TEXTS]
    torch.testing.assert_close(torch.cat(alone), expected, rtol=0, atol=1e-5)
    smaller = cut(model, some_keep(model, vanish=True))
    to_huggingface(smaller, ["bad", "good"]).save_pretrained(tmp_path / "cut")
    loaded = SkipForSequenceClassification.from_pretrained(tmp_path / "cut").eval()
    torch.testing.assert_close(ask(loaded, tokens), ask(smaller, tokens), rtol=0, atol=1e-5)


WHOLE = [("bert", "full"), ("t5_gated", "layers")]
MORE = [pytest.param(kind, "layers", marks=pytest.mark.slow) for kind in KINDS[:-1]]


@pytest.mark.parametrize(("kind", "train"), [*WHOLE, *MORE])
def test_a_cut_classifier_is_a_checkpoint_for_transformers(
    kind: str, train: str, tmp_path: Path, compress: Compress
) -> None:
    family = kind.split("_")[0]
    asked = (f"retune.train={train}", "retune.bias_lr=0.01")
    small = compress(save(classifier(kind), tmp_path / "given", family), *asked, ratio=0.4)
    assert small.about.train == train
    assert small.about.labels == ["bad", "good"] and small.result["params"]["block_pruned"] > 0.3
    tokens = tokenizer(family)(TEXTS, padding=True, return_tensors="pt")
    loaded = load_exported(small, tmp_path / "hf")
    expected = ask(small.model, tokens)
    torch.testing.assert_close(ask(loaded, tokens), expected, rtol=0, atol=1e-5)
    assert loaded.config.id2label == {0: "bad", 1: "good"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_a_cut_classifier_is_exported_to_onnx(
    onnx_packages: None, kind: str, tmp_path: Path, compress: Compress
) -> None:
    small = compress(save(classifier(kind), tmp_path / "given", kind), ratio=0.4)
    served = skip_exp.OnnxSkill.load(small.export(tmp_path / "onnx", "onnx"))
    texts = ["a warm film", "dull", "the plot is long"]
    for asked in (texts, texts[:1]):  # batches of any size
        for one, other in zip(served.predict(asked), small.predict(asked), strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)


def test_without_a_cut_and_re_tuning_nothing_changes(tmp_path: Path, compress: Compress) -> None:
    original = classifier("bert")
    same = compress(save(original, tmp_path / "given"), ratio=0)
    tokens = tokenizer("bert")(TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(ask(same.model, tokens), ask(original, tokens))
    assert same.about.train == "none"
    whole = sum(p.numel() for p in original.parameters())
    assert same.result["params"]["all_before"] == same.result["params"]["all_after"] == whole


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
def test_the_dense_row_is_the_given_model_as_transformers_answers(
    kind: str, tmp_path: Path, compress: Compress
) -> None:
    """Row by row, of texts of up to 150 tokens, and with a class that the model hardly answers."""
    original = classifier(kind, names=("bad", "good", "odd"), max_position_embeddings=160)
    given = save(original, tmp_path / "given", kind)
    plain = AutoModelForSequenceClassification.from_pretrained(given).eval()
    tokenize = AutoTokenizer.from_pretrained(given)
    generator = np.random.default_rng(0)
    lengths = [*generator.integers(3, 20, 670), *[150] * 30]
    texts = [" ".join(generator.choice(WORDS, length)) for length in lengths]
    logits = torch.cat([ask(plain, tokenize(text, return_tensors="pt")) for text in texts])
    # The 25 rows next to the class odd have it.
    labels = logits[:, :2].argmax(1)
    labels[(logits[:, 2] - logits[:, :2].amax(1)).topk(25).indices] = 2
    table = pd.DataFrame({"comment": texts, "verdict": [("bad", "good", "odd")[i] for i in labels]})
    table = table.sample(frac=1, random_state=0)
    whole = {"data": table[:600], "validation": table[600:]}
    settings = [each for each in QUICK if not each.startswith("data.max_length")]
    small = compress(given, quick=settings, ratio=0.4, **whole)
    assert small.about.max_length == (158 if kind == "roberta" else 160)
    held = pd.read_csv(small.folder.parent / PREDICTIONS)
    of_held = logits[table.index[600:]]
    assert held["dense"].tolist() == of_held.argmax(1).tolist()
    right = of_held.argmax(1) == torch.tensor(held["label"])
    dense = small.result["metrics"]["accuracy"]["dense"]
    assert dense == pytest.approx(right.float().mean().item())
    same = compress(given, quick=settings, ratio=0, **whole)
    answers = [each["probabilities"] for each in same.predict(table["comment"].tolist())]
    expected = (logits[table.index] / same.about.temperature).softmax(1)
    found = torch.tensor([[*each.values()] for each in answers])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_cutting_only_trains_nothing_and_ranks_by_what_is_lost(
    rows: Path, tmp_path: Path, compress: Compress
) -> None:
    """Its classes are numbers."""
    model = classifier("bert")
    model.config.id2label = {0: 0, 1: 1}
    table = pd.read_csv(rows).replace({"verdict": {"bad": 0, "good": 1}})
    small = compress(save(model, tmp_path / "given"), data=table, ratio=0.3, retune=False)
    assert small.about.labels == ["0", "1"]
    result = small.result
    assert result["config"]["attribution"]["options"]["sign"] == "text"
    assert not result["config"]["retune"]["enabled"]
    assert result["metric"]["final"] == result["metric"]["pruned"]


def test_the_command_writes_a_checkpoint(
    tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, unnamed = tmp_path / "mine = it's", classifier("bert")
    unnamed.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    save(unnamed, folder)
    place = ["--text", "comment", "--label", "verdict", "--output", str(tmp_path / "out")]
    out = tmp_path / "small"
    asked = ["--out", str(out), "--no-retune", *QUICK]
    assert command.compress([str(folder), str(rows), *place, *asked, "--classes", "good,bad"]) == 0
    assert json.loads((out / "config.json").read_text())["id2label"] == {"0": "good", "1": "bad"}
    assert command.compress([str(folder), str(rows), *place, *asked]) == 2
    assert str(out) in capsys.readouterr().err
    assert command.compress([str(tmp_path / "none"), str(rows), *place]) == 2
    assert "none" in capsys.readouterr().err


@pytest.mark.slow
def test_a_classifier_of_the_hub_is_named_by_its_id(tmp_path: Path, rows: Path) -> None:
    save(classifier("bert"), tmp_path / "hub" / "models" / "someone" / "verdicts")
    told = ["someone/verdicts", str(rows), "--text", "comment", "--label", "verdict"]
    command = [sys.executable, "-m", "skip_exp", "compress", *told, "--out", "small", *QUICK]
    with serving(tmp_path / "hub") as hub:
        env = hub.environment(tmp_path / "home")
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "small" / "README.md").read_text()
    assert "base_model: someone/verdicts" in card


def test_what_cannot_be_compressed_is_refused(
    tmp_path: Path, compress: Compress, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_only = "retune.enabled=false"
    unnamed = classifier("bert")
    unnamed.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    three = classifier("bert")
    three.config.id2label = {0: "a", 1: "b", 2: "c"}
    number = classifier("bert")
    number.config.problem_type = "regression"
    save(classifier("bert"), tmp_path / "saved")
    for i, refused in enumerate((unnamed, three, number)):
        with pytest.raises(SkipError):
            compress(save(refused, tmp_path / str(i)), cut_only)
    foreign = save(classifier("bert"), tmp_path / "foreign") / "config.json"
    foreign.write_text(foreign.read_text().replace('"bert"', '"deberta"'))
    with pytest.raises(SkipError, match="deberta"):
        compress(foreign.parent, cut_only)
    (tmp_path / "odd").mkdir()
    code = 'import pathlib\npathlib.Path(__file__).with_name("ran").touch()\n'
    (tmp_path / "odd/configuration_odd.py").write_text(code)
    odd = {"model_type": "odd", "auto_map": {"AutoConfig": "configuration_odd.OddConfig"}}
    (tmp_path / "odd/config.json").write_text(json.dumps(odd))
    with pytest.raises(SkipError, match="BertModel"):
        compress(save(classifier("bert").bert, tmp_path / "headless"), cut_only)
    monkeypatch.setattr(builtins, "input", lambda _: "y")
    with pytest.raises(SkipError):  # its code does not run, and nobody is asked
        compress(tmp_path / "odd", cut_only)
    assert not list(tmp_path.rglob("ran"))
    monkeypatch.chdir(tmp_path / "saved")
    here = compress(".", cut_only)
    assert here.about.backbone.name == "saved"


def test_an_own_export_is_a_dense_model(
    tmp_path: Path, rows: Path, compress: Compress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cut from where `fit` left it, with its own readout and labels."""
    save_backbone(tmp_path / "tiny", "bert")
    monkeypatch.chdir(tmp_path)  # a shared skill names a local backbone by its last folder
    given = {"text": "comment", "label": "verdict", "output": tmp_path / "out"}
    quick = [*QUICK, "backbone.name=tiny", "backbone.path=tiny", "tune.epochs=1"]
    uncut = skip_exp.fit(rows, ratio=0, overrides=quick, **given)
    folder = uncut.export(tmp_path / "hf")
    same = compress(folder, ratio=0)
    assert same.predict(TEXTS) == uncut.predict(TEXTS)
    assert same.about.train == uncut.about.train == "layers"
    small = compress(folder, ratio=0.4)
    assert small.result["metric"]["dense"] == uncut.result["metric"]["final"]
    assert small.result["params"]["block_pruned"] > 0.3
    assert small.result["config"]["tune"]["epochs"] == 0
    for refused, classes in (
        (small.export(tmp_path / "cut"), None),
        (folder, ["good", "bad"]),  # its readout has another order
    ):
        with pytest.raises(SkipError, match=r"^tune\.start="):
            compress(refused, ratio=0.4, classes=classes)


@pytest.mark.parametrize(
    "own",
    [
        ("tune.train=lora", "tune.rank=4"),
        *rarely(("tune.train=bias", "tune.bias_lr=0.01")),
        ("backbone.readout=mlm", "task.words=[dull,warm]"),
    ],
)
def test_an_own_skill_keeps_its_rank_and_its_words(
    own: tuple[str, str], tmp_path: Path, rows: Path, compress: Compress
) -> None:
    backbone = save_backbone(tmp_path / "tiny", "bert")
    quick = [*QUICK, "backbone.name=tiny", f"backbone.path={backbone}", "tune.epochs=1", *own]
    given = {"text": "comment", "label": "verdict", "output": tmp_path / "out"}
    uncut = skip_exp.fit(rows, ratio=0, overrides=quick, **given)
    assert not uncut.result["config"]["retune"]["enabled"]  # what is not cut needs no repair
    same = compress(uncut.folder, ratio=0)
    assert same.predict(TEXTS) == uncut.predict(TEXTS)
    small = compress(uncut.folder, ratio=0.4)
    assert small.result["metric"]["dense"] == uncut.result["metric"]["final"]
