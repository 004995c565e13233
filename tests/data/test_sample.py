import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from skip_exp.config.task import TaskConfig
from skip_exp.data.rows import Split
from skip_exp.data.sample import sample_tables
from skip_exp.data.sources import RawTask, load_task
from skip_exp.data.spec import columns, task_spec
from skip_exp.errors import DataError

from .conftest import spec

CONF = Path(__file__).parents[2] / "conf" / "task"
TASKS = sorted(path.stem for path in CONF.glob("*.yaml"))


def described(task: str) -> TaskConfig:
    return task_spec(OmegaConf.load(CONF / f"{task}.yaml"))


def load(task: TaskConfig) -> RawTask:
    return load_task(task, "sample", None, allow_sample=False)


def joined(split: Split) -> list[str]:
    return [
        " ".join(texts) for texts in zip(split.text_a, split.text_b or split.text_a, strict=True)
    ]


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_in_the_tasks_own_columns_and_balanced(task: str) -> None:
    real = described(task)
    table, _ = sample_tables(real)[real.train]
    assert set(table.columns) == {*columns(real), real.label}
    raw = load(real)
    assert raw.is_sample
    sizes = [len(split) for split in raw.splits.values()]
    assert sizes == [800] + [400] * (len(sizes) - 1)
    for split in raw.splits.values():
        counts = [split.label.count(label) for label in range(real.num_labels)]
        assert max(counts) - min(counts) <= 1
    select = raw.splits[real.train].label[9::10]
    assert min(select.count(label) for label in range(real.num_labels)) >= 10


def test_the_sample_is_always_the_same() -> None:
    real = described("rte")
    assert load(real) == load(real)
    extra = load(described("mnli")).splits
    assert extra["validation_matched"].text_a != extra["validation_mismatched"].text_a


@pytest.mark.parametrize("task", ["sst2", "rte", "mnli", "boolq", "ag_news"])  # every kind
def test_words_are_not_shared_and_counting_them_is_not_enough(task: str) -> None:
    real = described(task)
    raw = load(real)
    train, validation = raw.splits[real.train], raw.splits[real.validation]
    words = [re.findall(r"\w+", " ".join(joined(split)).lower()) for split in (train, validation)]
    assert set(words[0]) & set(words[1]) <= {"and", "in", "or", "that"}
    counts = TfidfVectorizer(ngram_range=(1, 2))
    model = LogisticRegression(max_iter=500).fit(counts.fit_transform(joined(train)), train.label)
    assert model.score(counts.transform(joined(validation)), validation.label) <= 0.60


def test_labels_mean_what_they_are_called() -> None:
    def texts(task: TaskConfig, label: str) -> set[tuple[str, str]]:
        split = load(task).splits["train"]
        pairs = zip(split.text_a, split.text_b or split.text_a, split.label, strict=True)
        return {(a, b) for a, b, y in pairs if task.labels[y] == label}

    pair = {"text": ["s", "t"], "metrics": ["accuracy"]}
    first = spec(labels=["entailment", "not_entailment"], **pair)
    second = spec(labels=["not_entailment", "entailment"], **pair)
    for task in (first, second):
        agree = texts(task, "entailment")
        assert any("wonderful" in b and "awful" in a for a, b in texts(task, "not_entailment"))
        assert not any("wonderful" in b and "awful" in a for a, b in agree)
        assert any("wonderful" in b and "delightful" in a for a, b in agree)
    single = spec(labels=["positive", "negative"])
    assert any(a.startswith("The film was dull") for a, _ in texts(single, "negative"))
    assert not any(a.startswith("The film was dull") for a, _ in texts(single, "positive"))


def test_questions_are_asked_and_passages_are_longer() -> None:
    for task, first, second in (("boolq", True, False), ("qnli", True, False), ("qqp", True, True)):
        split = load(described(task)).splits["train"]
        assert all(text.endswith("?") == first for text in split.text_a)
        assert all(text.endswith("?") == second for text in split.text_b or [])
    passages = load(described("boolq")).splits["train"].text_b or []
    assert all(text.count(".") == 2 for text in passages)
    words = load(described("wic")).splits["train"]
    pairs = zip(words.text_a, words.text_b or [], strict=True)
    assert all(a.split(":")[0] == b.split(":")[0] for a, b in pairs)


def test_many_labels_are_topics_up_to_a_limit() -> None:
    ten = spec(labels=[str(i) for i in range(10)])
    assert set(load(ten).splits["train"].label) == set(range(10))
    with pytest.raises(DataError):
        load(spec(labels=[str(i) for i in range(11)]))
