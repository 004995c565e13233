"""A task of several labels per text, from rows to exports, on a tiny backbone."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification

import skip_exp
from skip_exp import OnnxSkill, Skill
from skip_exp.commands.answer import evaluate, predict
from skip_exp.commands.compare import bootstrap_rows
from skip_exp.errors import SkipError
from tests.api.test_compress import classifier, save
from tests.helpers.toy import SMALL, quick_settings

QUICK = [*SMALL, "attribution.samples=64", "retune.epochs=1", "benchmark.enabled=false"]
NAMES = ["dull", "funny", "warm"]


def rows(count: int = 300) -> list[dict[str, Any]]:
    """A text has the labels whose words it has. Spaces make every text another one."""
    made = []
    for i in range(count):
        labels = [name for bit, name in enumerate(NAMES) if (i >> bit) & 1]
        made.append({"text": f"the film was {' and '.join(labels)}{' ' * i}", "labels": labels})
    return made


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    tune = ["tune.epochs=6", "tune.lora_lr=0.01", "retune.copies=1", "benchmark.enabled=false"]
    return [*quick_settings(tmp_path_factory.mktemp("backbone")), *tune]


@pytest.fixture(scope="module")
def skill(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Skill:
    output = tmp_path_factory.mktemp("output")
    found = skip_exp.fit(rows(), label="labels", ratio=0.3, output=output, overrides=settings)
    assert isinstance(found, Skill)
    return found


def test_a_job_scores_all_labels(skill: Skill) -> None:
    result = skill.result
    assert [*result["metrics"]] == ["f1_micro", "f1_macro", "average_precision"]
    assert result["metric"]["name"] == "f1_micro"
    assert result["metric"]["final"] > result["majority"]["f1_micro"] + 0.1  # it has learned
    assert result["calibration"]["threshold"] == skill.about.threshold
    assert 0 < result["params"]["block_pruned"] < 1
    assert skill.folder is not None
    path = str(skill.folder.parent / "result.json")
    answers = pd.read_csv(skill.folder.parent / "predictions.csv.gz", keep_default_na=False)
    assert [*answers] == ["label", "predicted", "dense"] and len(answers) == result["n_eval"]
    assert {"", "0;2"} <= {*answers["label"]}
    pair = pd.DataFrame({"metric": ["f1_micro"], "path": [path], "path of option": [path]})
    assert bootstrap_rows(pair) is None  # there is no such test yet


def test_answers_have_all_labels_above_the_threshold(skill: Skill) -> None:
    answers = skill.predict([row["text"] for row in rows(64)])
    for answer in answers:
        given = {k for k, p in answer["probabilities"].items() if p > (skill.about.threshold or 0)}
        assert {*answer["labels"]} == given and "label" not in answer
    assert len({len(answer["labels"]) for answer in answers}) > 1
    with pytest.raises(SkipError, match=r"reject=0.7: not for several labels"):
        skill.predict(["a film"], reject=0.7)


def test_rows_are_evaluated_by_label(skill: Skill, tmp_path: Path, capsys: Any) -> None:
    held = rows(200)
    found = skill.evaluate(held)
    predicted = [answer["labels"] for answer in skill.predict([row["text"] for row in held])]
    both = list(zip((row["labels"] for row in held), predicted, strict=True))
    for name in NAMES:
        hits = sum(name in true and name in given for true, given in both)
        scores = found["classes"][name]
        assert scores["support"] == sum(name in true for true, _ in both)
        assert scores["recall"] == pytest.approx(hits / scores["support"])
    wrong = [i for i, (true, given) in enumerate(both, 1) if {*true} != {*given}]
    assert sorted(error["row"] for error in found["errors"]) == wrong
    hits = sum(len({*true} & {*given}) for true, given in both)
    every = sum(len(true) + len(given) for true, given in both)
    assert found["f1_micro"] == pytest.approx(2 * hits / every)
    file = tmp_path / "held.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in held))
    assert evaluate([str(skill.folder), str(file), "--errors", str(tmp_path / "e.csv")]) == 0
    assert "f1_macro" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "e.csv")) == len(wrong)
    assert predict([str(skill.folder), "a dull film"]) == 0
    assert "labels" in json.loads(capsys.readouterr().out)


def test_exports_answer_alike(skill: Skill, tmp_path: Path) -> None:
    texts = [row["text"] for row in rows(16)]
    expected = [[*row.values()] for row in (a["probabilities"] for a in skill.predict(texts))]
    out = skill.export(tmp_path / "hf")
    model = AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert model.config.problem_type == "multi_label_classification"
    assert model.config.skill["threshold"] == skill.about.threshold
    inputs = skill.tokenizer(texts, padding=True, return_tensors="pt")
    labels = torch.tensor([[1, 0, 1]] * 16)
    with torch.no_grad():
        found = model(**inputs, labels=labels)
    torch.testing.assert_close(found.logits.sigmoid(), torch.tensor(expected), atol=1e-5, rtol=0)
    loss = torch.nn.BCEWithLogitsLoss()(found.logits, labels.float())
    torch.testing.assert_close(found.loss, loss)


@pytest.mark.slow  # an export takes seconds
@pytest.mark.parametrize("int8", [False, True])
def test_onnx_answers_alike(onnx_packages: None, skill: Skill, tmp_path: Path, int8: bool) -> None:
    texts = [row["text"] for row in rows(16)]
    out = skill.export(tmp_path / "onnx", "onnx", int8=int8)
    problem = json.loads((out / "config.json").read_text())["problem_type"]
    assert problem == "multi_label_classification"
    small = OnnxSkill.load(out)
    assert small.about.threshold == skill.about.threshold
    for one, other in zip(small.predict(texts), skill.predict(texts), strict=True):
        near = pytest.approx(other["probabilities"], abs=0.1 if int8 else 1e-5)
        assert one["probabilities"] == near
        assert int8 or one["labels"] == other["labels"]


@pytest.mark.slow  # another job
def test_a_classifier_of_several_labels_is_compressed(tmp_path: Path) -> None:
    model = classifier("bert")
    model.config.problem_type = "multi_label_classification"
    table = pd.DataFrame(rows())
    table["labels"] = [";".join({"dull": "bad"}.get(x, "good") for x in y) for y in table["labels"]]
    given = {"label": "labels", "output": tmp_path, "overrides": QUICK}
    folder = save(model, tmp_path / "given")
    small = skip_exp.compress(folder, table, ratio=0.3, **given)
    assert not small.about.outcome.is_exclusive and small.about.labels == ["bad", "good"]
    same = skip_exp.compress(folder, table, ratio=0.0, retune=False, **given)
    inputs = same.tokenizer(["a dull film"], return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(
            same.model(**inputs) * same.about.temperature, model(**inputs).logits
        )


@pytest.mark.parametrize(
    ("overrides", "options", "why"),
    [
        (["backbone.readout=mlm"], {}, r"backbone.readout=mlm: answers with one word"),
        ([], {"within": 1.0}, r"prune.within=1.0: not where task.kind=many_labels"),
        (["task.metrics=[accuracy]"], {}, r"task.metrics=\['accuracy'\]: one or more of f1_micro"),
    ],
)
def test_what_knows_one_label_only_is_refused(
    overrides: list[str], options: dict[str, Any], why: str, settings: list[str], tmp_path: Path
) -> None:
    fit: Any = skip_exp.fit
    with pytest.raises(SkipError, match=why):
        given = [*settings, *overrides]
        fit(rows(), label="labels", output=tmp_path, overrides=given, **options)
