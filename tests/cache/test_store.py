"""A stage is computed once; a damaged entry is computed again, never believed."""

import multiprocessing
import time
from pathlib import Path

import pytest
import torch

from skip_exp.cache.store import (
    Entry,
    Keyed,
    StageCache,
    pack_files,
    read_entry,
    stage_key,
    unpack_files,
)
from skip_exp.config.schema import PromptConfig
from skip_exp.errors import SkipError

KEY = "0123abcd"


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Entry:
        self.calls += 1
        return Entry({"x": torch.arange(6.0).view(2, 3)}, {"epoch": 4, "curves": [{"a": 0.5}]})


def file_of(folder: Path) -> Path:
    (file,) = folder.glob("tune/*.safetensors")
    return file


def test_computed_once_and_the_same_afterwards(tmp_path: Path) -> None:
    compute, cache = Counter(), StageCache(tmp_path)
    first, again = (cache.get("tune", KEY, compute) for _ in range(2))
    assert (compute.calls, first.hit, again.hit) == (1, False, True)
    assert torch.equal(first.tensors["x"], again.tensors["x"])
    assert first.values == again.values
    assert first.key == again.key == KEY
    cache.get("tune", "other", compute)
    cache.get("attribute", KEY, compute)
    cache.get("tune", KEY, compute, reuse=False)
    assert compute.calls == 4


def count_words(calls: list[str], *, text: str, rows: list[int], prompt: PromptConfig) -> Entry:
    """A stage: what it is called with by position does not count."""
    calls.append(text)
    return Entry(values={"words": len(rows), "length": prompt.length})


def test_the_arguments_of_a_stage_are_its_key(tmp_path: Path) -> None:
    cache, calls, made = StageCache(tmp_path), list[str](), list[str]()

    def run(text: str, length: int = 4, key: str = "rows") -> Entry:
        rows = Keyed(key, lambda: made.append(key) or [1, 2])
        prompt = PromptConfig(kind="prefix", length=length)
        return cache.stage(count_words, calls, text=text, rows=rows, prompt=prompt)

    first, again = run("a"), run("a")
    assert (first.hit, again.hit) == (False, True) and first.values == {"words": 2, "length": 4}
    assert made == ["rows"]  # a hit needs no rows
    assert not any(entry.hit for entry in (run("b"), run("a", length=5), run("a", key="others")))
    assert calls == ["a", "b", "a", "a"]
    assert run("a").hit and (tmp_path / "count_words").is_dir()


def test_an_entry_of_an_argument_that_is_not_kept_is_not_taken(tmp_path: Path) -> None:
    def score_it(*, model: int) -> Entry:
        return Entry(values={"score": model})

    cache = StageCache(tmp_path)
    for model, keep in ((1, True), (2, False)):
        entry = cache.stage(score_it, model=Keyed("model", lambda model=model: model, keep))
        assert (entry.values["score"], entry.keep) == (model, keep)
    assert cache.stage(score_it, model=Keyed("model", lambda: 3)).values["score"] == 1


def test_a_value_without_a_key_is_refused() -> None:
    with pytest.raises(TypeError, match="Keyed"):
        stage_key("tune", {"model": torch.nn.Linear(1, 1)})
    assert stage_key("a", {"x": 1, "y": [2]}) == stage_key("a", {"y": (2,), "x": 1})
    assert stage_key("a", {"x": 1}) != stage_key("b", {"x": 1})


def test_files_of_a_finished_job_come_back_byte_by_byte(tmp_path: Path) -> None:
    (tmp_path / "job/skill").mkdir(parents=True)
    content = {"skill/a.json": b"{}", "keep.png": bytes(range(256))}
    for name, each in content.items():
        (tmp_path / "job" / name).write_bytes(each)
    cache = StageCache(tmp_path / "cache")
    made = Entry(pack_files(tmp_path / "job", [*content]), {"result": {"seed": 1}})
    cache.get("jobs", KEY, lambda: made)
    found = cache.get("jobs", KEY, lambda: pytest.fail("computed again"))
    assert found.hit and found.values == made.values
    unpack_files(found, tmp_path / "again")
    assert {name: (tmp_path / "again" / name).read_bytes() for name in content} == content


@pytest.mark.parametrize("left", [-5, 0])
def test_a_truncated_entry_is_computed_again(
    tmp_path: Path, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    compute, cache = Counter(), StageCache(tmp_path)
    cache.get("tune", KEY, compute)
    file = file_of(tmp_path)
    file.write_bytes(file.read_bytes()[:left])
    assert read_entry(file) is None
    assert "damaged" in caplog.text
    assert cache.get("tune", KEY, compute).hit is False
    assert compute.calls == 2
    assert cache.get("tune", KEY, compute).hit is True


def test_nothing_half_written(tmp_path: Path) -> None:
    def fails() -> Entry:
        raise RuntimeError("on purpose")

    cache = StageCache(tmp_path)
    with pytest.raises(RuntimeError, match="on purpose"):
        cache.get("tune", KEY, fails)
    assert not list(tmp_path.rglob("*.safetensors")) + list(tmp_path.rglob("*.tmp"))
    assert cache.get("tune", KEY, Counter()).hit is False  # the lock is free again


def test_what_an_unfinished_entry_leaves_is_there_until_it_is_done(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    path = cache.unfinished("tune", KEY, "ckpt")
    assert path == tmp_path / f"tune/{KEY}.ckpt"

    def killed() -> Entry:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("tune", KEY, killed)
    cache.get("tune", "other", Counter())
    assert path.read_text() == "half"
    cache.get("tune", KEY, Counter())
    assert not path.exists()
    assert StageCache(None).unfinished("tune", KEY, "ckpt") is None


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SkipError, match=r"^cache\.dir=.*file: "):
        StageCache(tmp_path / "file").get("tune", KEY, Counter())
    assert StageCache(None).get("tune", KEY, Counter()).hit is False


def _slow(folder: Path) -> None:
    def compute() -> Entry:
        with (folder / "calls").open("a") as file:
            file.write("x")
        time.sleep(0.3)
        return Entry({"x": torch.ones(1)}, {})

    StageCache(folder).get("tune", KEY, compute)


@pytest.mark.slow
def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_slow, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert (tmp_path / "calls").read_text() == "x"


def test_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    mine, other = (tmp_path / "tune" / f"{n}.safetensors.1.tmp" for n in (KEY, "0" * 32))
    for path in (mine, other):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    StageCache(tmp_path).get("tune", KEY, Counter())
    assert list(tmp_path.rglob("*.tmp")) == [other]  # whose lock was not held
