"""More texts without a label, which the dense model labels while re-tuning."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skip_exp import pipeline
from skip_exp.cache.store import stage_key
from skip_exp.data.batches import UNLABELLED
from skip_exp.data.encode import with_unlabelled
from skip_exp.data.module import TextDataModule
from skip_exp.errors import SkipError
from skip_exp.job.answer import answer_known
from skip_exp.phases.prepare import prepare
from skip_exp.phases.retune import ask_teacher
from tests.helpers.toy import save_toy, toy_job


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def job(toy: list[str], tmp_path: Path) -> Any:
    texts = tmp_path / "more.jsonl"

    def make(*overrides: str, rows: int = 40, folder: str = "run") -> Any:
        lines = [json.dumps({"text": f"a warm film {i}", "id": i}) for i in range(rows)]
        texts.write_text("\n".join(lines), encoding="utf-8")
        given = ["tune.epochs=1", "retune.epochs=1", f"data.unlabelled={texts}"]
        return toy_job(toy, tmp_path, folder, *given, *overrides)

    return make


def test_the_dense_model_labels_them_and_their_copies(job: Any) -> None:
    asked = prepare(job("retune.copies=2"))
    texts, labelled, dense = asked.taught.value, len(asked.data.train), asked.new_model()
    logits = ask_teacher(asked.trainer, dense=dense, data=asked.data, texts=texts)
    teacher = logits.tensors["logits"]
    assert len(asked.data.unlabelled) == 40
    assert len(teacher) == len(texts) == 3 * (labelled + 40)
    batches = TextDataModule(asked.data, 32, 1, teacher=teacher, rows=texts, versions=3)
    labels = [x for batch in batches.train_dataloader() for x in batch["labels"].tolist()]
    assert len(labels) == labelled + 40
    tuned = TextDataModule(asked.data, 32, 1)
    assert UNLABELLED not in [x for b in tuned.train_dataloader() for x in b["labels"].tolist()]


def test_a_job_is_another_with_other_texts(job: Any) -> None:
    jobs = [prepare(job(rows=rows)) for rows in (30, 40)]
    assert jobs[0].key != jobs[1].key and jobs[0].taught.key != jobs[1].taught.key
    dense = [stage_key("fit_dense", each.dense_arguments) for each in jobs]
    assert dense[0] == dense[1]  # it does not read them


def test_texts_of_another_encoding_are_other_texts(job: Any) -> None:
    jobs = [prepare(job(f"data.encoding={name}")) for name in ("utf-8", "latin-1")]
    assert jobs[0].taught.key != jobs[1].taught.key
    dense = [stage_key("fit_dense", each.dense_arguments) for each in jobs]
    assert dense[0] == dense[1]  # its rows are ASCII


def test_answers_to_texts_that_were_dropped_since_are_not_reused(
    toy: list[str], tmp_path: Path
) -> None:
    lines = ["the film is warm,1", "the plot is dull,0"] * 10  # no train row says `is`
    (tmp_path / "scored.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    (tmp_path / "more.jsonl").write_text('{"text": "the film is warm"}\n{"text": "new"}')
    given = [f"data.unlabelled={tmp_path}/more.jsonl", "task.files.train=" + _train(toy)]
    given += [f"task.files.validation={tmp_path}/scored.csv"]
    for dropped in ("false", "true"):
        asked = toy_job(toy, tmp_path, dropped, *given, f"data.deduplicate={dropped}")
        assert pipeline.run(asked)["cache"]["tune"] == ("miss" if dropped == "false" else "hit")


def _train(toy: list[str]) -> str:
    (place,) = [each.partition("=")[2] for each in toy if each.startswith("+task.files.train=")]
    return place


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["retune.distill=0"], "data.unlabelled="),
        (["retune.enabled=false"], "data.unlabelled="),
        (["data.unlabelled=nowhere.csv"], "data.unlabelled: "),
    ],
)
def test_refusals(job: Any, overrides: list[str], told: str) -> None:
    with pytest.raises(SkipError) as refused:
        pipeline.run(job(*overrides))
    assert str(refused.value).startswith(told)


def test_a_missing_file_is_no_other_job(job: Any, toy: list[str], tmp_path: Path) -> None:
    given = ["tune.epochs=1", "retune.epochs=1"]
    pipeline.run(toy_job(toy, tmp_path, "plain", *given))
    asked = toy_job(toy, tmp_path, "run", *given, "data.unlabelled=nowhere.csv")
    assert answer_known(asked) is None


def test_texts_that_are_scored_are_told_and_dropped(job: Any, tmp_path: Path) -> None:
    cfg = job()
    (tmp_path / "more.jsonl").write_text('{"text": "the film was warm"}\n{"text": "new"}')
    data = prepare(cfg).data
    assert len(data.unlabelled) == 2
    assert len(with_unlabelled(data, replace(cfg.data, deduplicate=True)).unlabelled) == 1
