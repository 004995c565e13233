import logging
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from omegaconf import OmegaConf

from skip_exp.config.task import TaskConfig
from skip_exp.data.sources import load_task
from skip_exp.data.spec import task_spec
from skip_exp.errors import ConfigError, DataError
from skip_exp.utils import hub

from .conftest import rows, spec

HUB = {"path": "someone/toy", "name": "toy"}
CONF = Path(__file__).parents[2] / "conf" / "task"
Folder = Callable[..., Path]


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no data folder and an empty Hugging Face cache."""
    monkeypatch.delenv("SKIP_EXP_DATA", raising=False)
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


def fill_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave someone/toy in the Hugging Face cache as a download would."""
    cache = tmp_path / "hf" / "someone___toy" / "toy" / "0.0.0" / "abc123"
    for name, n in (("train", 30), ("validation", 6)):
        data = datasets.Dataset.from_list(rows(n))
        file = tmp_path / f"{name}.jsonl"
        data.to_json(file)
    built = datasets.load_dataset(
        "json",
        data_files={n: str(tmp_path / f"{n}.jsonl") for n in ("train", "validation")},
        cache_dir=str(tmp_path / "built"),
    )
    for name, split in built.items():
        source = Path(split.cache_files[0]["filename"])
        cache.mkdir(parents=True, exist_ok=True)
        (cache / f"toy-{name}.arrow").write_bytes(source.read_bytes())
        info = (source.parent / "dataset_info.json").read_text()
        info = info.replace('"config_name": "default"', '"config_name": "toy"')
        (cache / "dataset_info.json").write_text(info.replace('"json"', '"toy"'))


def test_local_by_folder_and_by_environment(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = folder(train=rows(30), validation=rows(6), more=rows(4))
    caplog.set_level(logging.INFO)
    raw = load_task(spec(extra=["more"]), "auto", str(root), allow_sample=True)
    assert raw.source == f"local:{root}"
    assert not raw.is_sample
    assert {name: len(split) for name, split in raw.splits.items()} == {
        "train": 30, "validation": 6, "more": 4,
    }  # fmt: skip
    assert raw.splits["validation"].text_a[5] == "text 5"
    assert caplog.records[-1].args[:2] == ("toy", f"local:{root}")
    monkeypatch.setenv("SKIP_EXP_DATA", str(root))
    again = load_task(spec(extra=["more"]), "local", None, allow_sample=False)
    assert again == raw


def test_a_users_own_files_win_and_mix_formats(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("s,label\n" + "x,yes\ny,no\n" * 10)
    (tmp_path / "v.json").write_text('[{"s": "z", "label": 1}]')
    files = {"train": str(tmp_path / "t.csv"), "validation": str(tmp_path / "v.json")}
    raw = load_task(spec(files=files), "auto", None, allow_sample=False)
    assert raw.source == f"local:{tmp_path}"
    assert raw.splits["train"].label == [1, 0] * 10
    assert raw.splits["validation"].text_a == ["z"]


def test_content_not_place_makes_the_fingerprint(folder: Folder, tmp_path: Path) -> None:
    root = folder(train=rows(30), validation=rows(6))
    first = load_task(spec(), "local", str(root), allow_sample=False)
    files = {n: str(root / "toy" / f"{n}.jsonl") for n in ("train", "validation")}
    second = load_task(spec(files=files), "local", None, allow_sample=False)
    assert first.fingerprint == second.fingerprint


def test_auto_prefers_local_then_hub_then_the_sample(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = spec(hub=HUB)
    none = load_task(task, "auto", str(tmp_path), allow_sample=True)
    assert (none.source, none.is_sample) == ("sample", True)
    reachable_hub(monkeypatch, train=rows(40), validation=rows(8))
    online = load_task(task, "auto", str(tmp_path), allow_sample=True)
    assert (online.source, len(online.splits["train"])) == ("hub:someone/toy/toy", 40)
    root = folder(train=rows(30), validation=rows(6))
    assert load_task(task, "auto", str(root), allow_sample=True).source == f"local:{root}"


def test_the_cache_is_asked_before_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = reachable_hub(monkeypatch, train=rows(40), validation=rows(8))
    load_task(spec(hub=HUB), "hub", None, allow_sample=False)
    assert calls == [True, False]  # offline first


def test_a_cached_data_set_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fill_cache(monkeypatch, tmp_path)
    monkeypatch.setattr(hub, "hub_reachable", lambda: pytest.fail("asked the hub"))
    raw = load_task(spec(hub=HUB), "auto", None, allow_sample=True)
    assert raw.source == "hub:someone/toy/toy"
    assert raw.splits["train"].text_a == [f"text {i}" for i in range(30)]


def test_a_fall_back_to_the_sample_says_why(caplog: pytest.LogCaptureFixture) -> None:
    load_task(spec(hub=HUB), "auto", None, allow_sample=True)
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "toy" in warning.args and "someone/toy/toy" in warning.getMessage()


def test_without_data_or_leave_for_the_sample_auto_says_what_to_do() -> None:
    with pytest.raises(DataError) as refused:
        load_task(spec(hub=HUB), "auto", None, allow_sample=False)
    for part in ("data.dir", "SKIP_EXP_DATA", "someone/toy/toy", "data.source=sample"):
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(DataError, match="someone/toy/toy"):
        load_task(spec(hub=HUB), "hub", None, allow_sample=True)
    with pytest.raises(ConfigError, match=r"^data\.source=disk: "):
        load_task(spec(), "disk", None, allow_sample=True)


def test_local_without_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="SKIP_EXP_DATA"):
        load_task(spec(), "local", None, allow_sample=True)
    with pytest.raises(DataError, match=r"^data\.dir=/no/where: "):
        load_task(spec(), "auto", "/no/where", allow_sample=True)
    monkeypatch.setenv("SKIP_EXP_DATA", str(tmp_path / "typo"))
    with pytest.raises(DataError, match=r"^SKIP_EXP_DATA=.*typo: "):
        load_task(spec(), "auto", None, allow_sample=True)


def test_a_missing_split_is_never_replaced_by_the_sample(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(train=rows(30), test=rows(6))
    with pytest.raises(DataError, match=r"validation\.jsonl.*: test\.jsonl, train\.jsonl\)"):
        load_task(spec(), "auto", str(root), allow_sample=True)
    with pytest.raises(DataError, match=r"task\.files: .*'validation'"):
        load_task(spec(files={"train": "t.csv"}), "auto", None, allow_sample=True)
    reachable_hub(monkeypatch, train=rows(30), test=rows(6))
    with pytest.raises(DataError, match=r"'validation' .*: train, test\)"):
        load_task(spec(hub=HUB), "auto", None, allow_sample=True)


def test_a_hub_that_fails_is_never_replaced_by_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("half of it came\nthen nothing")

    reachable_hub(monkeypatch)
    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(DataError, match=r"task\.hub=someone/toy/toy: "):
        load_task(spec(hub=HUB), "auto", None, allow_sample=True)


def test_labels_of_the_hub_count_by_name_where_the_names_are_the_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In another order than the task's; -1, as unlabelled rows have it, stays none of them."""

    def published(labels: list[str]) -> None:
        features = datasets.Features(
            s=datasets.Value("string"), label=datasets.ClassLabel(names=labels)
        )
        split = datasets.Dataset.from_list(rows(20), features=features)
        data = datasets.DatasetDict(train=split, validation=split)
        monkeypatch.setattr(datasets, "load_dataset", lambda *_: data)

    def labels(task: TaskConfig) -> list[int]:
        return load_task(task, "hub", None, allow_sample=False).splits["train"].label[:3]

    reachable_hub(monkeypatch)
    published(["no", "yes"])
    assert labels(spec(hub=HUB)) == [0, 1, 0]
    published(["yes", "no"])
    assert labels(spec(hub=HUB)) == [1, 0, 1]
    published(["bad", "good"])  # the task has names of its own: in label order
    assert labels(spec(hub=HUB)) == [0, 1, 0]


@pytest.mark.parametrize(
    ("task", "train", "validation"),
    [("rte", 2490, 277), ("sst2", 6920, 872), ("mrpc", 3576, 500), ("cola", 8551, 1043)],
)
def test_real_tasks_load(real_data: Path, task: str, train: int, validation: int) -> None:
    real = task_spec(OmegaConf.load(CONF / f"{task}.yaml"))
    raw = load_task(real, "local", str(real_data), allow_sample=False)
    assert [len(split) for split in raw.splits.values()] == [train, validation]
    assert {*raw.splits["train"].label} == {0, 1}
