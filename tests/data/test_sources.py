from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd
import pytest
from omegaconf import OmegaConf

from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import to_object
from skip_exp.data import sources
from skip_exp.data.rows import get_labels
from skip_exp.errors import DataError
from skip_exp.utils import hub

from .conftest import load, rows, spec

HUB = {"path": "someone/toy", "name": "toy"}
CONF = Path(__file__).parents[2] / "conf" / "task"
Folder = Callable[..., Path]


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and an empty Hugging Face cache."""
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))


def reachable_hub(monkeypatch: pytest.MonkeyPatch, **splits: list[dict[str, object]]) -> list[bool]:
    """A hub that has someone/toy; returns whether each call of load_dataset was offline."""
    calls: list[bool] = []

    def load_dataset(path: str, name: str | None) -> datasets.DatasetDict:
        assert (path, name) == ("someone/toy", "toy")
        calls.append(datasets.config.HF_HUB_OFFLINE)
        if calls[-1]:
            raise FileNotFoundError("not cached")
        return datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in splits.items()})

    monkeypatch.setattr(hub, "hub_reachable", lambda: True)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_local_by_folder_and_by_file(folder: Folder) -> None:
    root = folder(train=rows(30), validation=rows(6), more=rows(4))
    raw = load(spec(extra=["more"]), "auto", str(root))
    assert raw.source == f"local:{root}"
    assert not raw.is_sample
    sizes = [len(raw.train), len(raw.select), len(raw.validation), len(raw.extra["more"])]
    assert sizes == [26, 4, 6, 4]
    assert raw.validation[5]["texts"] == ["text 5"]
    names = ("train", "validation", "more")  # content, not place, makes the fingerprint
    files = {name: str(root / "toy" / f"{name}.jsonl") for name in names}
    found = load(spec(extra=["more"], files=files), "local")
    assert found.fingerprint == raw.fingerprint


def test_a_users_own_files_win_and_mix_formats(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "s,label\n" + "".join(f"x{i},yes\ny{i},no\n" for i in range(10))
    )
    (tmp_path / "v.json").write_text('[{"s": "z", "label": 1}]')
    files = {"train": str(tmp_path / "t.csv"), "validation": str(tmp_path / "v.json")}
    raw = load(spec(files=files), "auto")
    assert raw.source == f"local:{tmp_path}"
    assert raw.train[:2] == [{"texts": ["x0"], "label": 1}, {"texts": ["y0"], "label": 0}]
    assert raw.validation == [{"texts": ["z"], "label": 1}]


def test_auto_prefers_local_then_hub_then_embedded(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.DataFrame({"s": [f"text {i}" for i in range(20)], "label": ["yes", "no"] * 10})
    (tmp_path / "rows").mkdir()
    for split in ("train", "validation"):
        table.to_parquet(tmp_path / f"rows/{split}.parquet")
    monkeypatch.setattr(sources, "EMBEDDED_ROWS", tmp_path)
    monkeypatch.setitem(sources.EMBEDDED_TASKS, "toy", "rows")
    task = spec(hub=HUB)
    assert load(task, "auto", str(tmp_path)).source == "embedded:rows"
    reachable_hub(monkeypatch, train=rows(40), validation=rows(8))
    online = load(task, "auto", str(tmp_path))
    assert (online.source, len(online.train)) == ("hub:someone/toy/toy", 36)
    root = folder(train=rows(30), validation=rows(6))
    assert load(task, "auto", str(root)).source == f"local:{root}"


def test_the_cache_is_asked_before_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = reachable_hub(monkeypatch, train=rows(40), validation=rows(8))
    load(spec(hub=HUB), "hub")
    assert calls == [True, False]  # offline first


def described(task: str) -> TaskConfig:
    return to_object(OmegaConf.load(CONF / f"{task}.yaml"), TaskConfig)


def test_stand_in_rows_say_so_and_why(caplog: pytest.LogCaptureFixture) -> None:
    raw = load(described("rte"), "auto")
    assert (raw.source, raw.is_sample) == ("embedded:snli_pairs", True)
    assert [len(raw.train) + len(raw.select), len(raw.validation)] == [2490, 500]
    assert get_labels([*raw.train, *raw.select]).count(0) == 1245
    texts = ["The skier is doing a flip through some trees", "A skier is doing tricks ."]
    assert raw.train[1] == {"texts": texts, "label": 0}  # entailment
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "SNLI" in warning.getMessage() and "nyu-mll/glue/rte" in warning.getMessage()


def test_the_rows_of_banking77_are_its_own(caplog: pytest.LogCaptureFixture) -> None:
    task = described("banking77")
    raw = load(task, "auto")
    assert (raw.source, raw.is_sample) == ("embedded:banking77", False)
    assert [len(raw.train) + len(raw.select), len(raw.validation)] == [10003, 3080]
    assert {*get_labels(raw.validation)} == {*range(77)}
    assert task.labels[raw.train[0]["label"]] == "card_arrival"
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.args == (6, 3080, "test", "train")  # nothing of stand-ins


def test_without_data_it_says_which_tasks_are_embedded_and_what_to_do() -> None:
    for task in (spec(hub=HUB), spec(hub=HUB, name="rte", extra=["more"])):
        with pytest.raises(DataError) as refused:
            load(task, "auto")
        for part in ("data.dir", "SKIP_EXP_DATA", "someone/toy/toy", "banking77", "rte"):
            assert part in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(DataError, match="someone/toy/toy"):
        load(spec(hub=HUB), "hub")


def test_local_without_a_folder_is_refused() -> None:
    with pytest.raises(DataError, match="SKIP_EXP_DATA"):
        load(spec(), "local")
    with pytest.raises(DataError, match=r"^data\.dir=/no/where: "):
        load(spec(), "auto", "/no/where")


def test_a_missing_split_is_never_replaced_by_a_stand_in(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(train=rows(30), test=rows(6))
    with pytest.raises(DataError, match=r"'validation' in .* test\.jsonl, train\.jsonl"):
        load(spec(), "auto", str(root))
    with pytest.raises(DataError, match=r"'train' in task\.files"):
        load(spec(files={"validation": "t.csv"}), "auto")
    reachable_hub(monkeypatch, train=rows(30), test=rows(6))
    with pytest.raises(DataError, match=r"'validation' .*: train, test\)"):
        load(spec(hub=HUB), "auto")


def test_a_hub_that_fails_is_never_replaced_by_a_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("half of it came\nthen nothing")

    reachable_hub(monkeypatch)
    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(DataError, match=r"task\.hub=someone/toy/toy: "):
        load(spec(hub=HUB), "auto")


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (["no", "yes"], [0, 1, 0]),
        (["yes", "no"], [1, 0, 1]),
        (["bad", "good"], [0, 1, 0]),  # the task has names of its own: in label order
    ],
)
def test_labels_of_the_hub_count_by_name_where_the_names_are_the_tasks(
    monkeypatch: pytest.MonkeyPatch, published: list[str], expected: list[int]
) -> None:
    label = datasets.ClassLabel(names=published)
    features = datasets.Features(s=datasets.Value("string"), label=label)
    split = datasets.Dataset.from_list(rows(20), features=features)
    reachable_hub(monkeypatch)
    data = datasets.DatasetDict(train=split, validation=split)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: data)
    assert get_labels(load(spec(hub=HUB), "hub").train)[:3] == expected


@pytest.mark.parametrize(
    ("task", "train", "validation"),
    [("rte", 2490, 277), ("sst2", 6920, 872), ("cola", 8551, 1043), ("banking77", 10003, 3080)],
)
def test_real_tasks_load(real_data: Path, task: str, train: int, validation: int) -> None:
    raw = load(described(task), "local", str(real_data))
    assert [len(raw.train) + len(raw.select), len(raw.validation)] == [train, validation]
    assert len({*get_labels(raw.train)}) == raw.spec.num_labels
