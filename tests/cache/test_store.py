"""A stage is computed once; a damaged entry is computed again, never believed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from skip_exp.cache import version
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


def test_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    mine, other = (tmp_path / "tune" / f"{n}.safetensors.1.tmp" for n in (KEY, "0" * 32))
    for path in (mine, other):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    StageCache(tmp_path).get("tune", KEY, Counter())
    assert list(tmp_path.rglob("*.tmp")) == [other]  # whose lock was not held


def forget_all() -> None:
    for cached in (version.rooms_code, version.part_code, version.room_code, version._read):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def forget() -> None:
    """Each test reads the sources anew, as a new process does."""
    forget_all()


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``edited("data/rows.py")``: from then on, the package's file has another content."""
    read = version._read

    def edit(name: str) -> None:
        for cached in (version.rooms_code, version.part_code, version.room_code):
            cached.cache_clear()
        monkeypatch.setattr(
            version,
            "_read",
            lambda path: read(path) + (b"#" if str(path).endswith(f"skip_exp/{name}") else b""),
        )

    return edit


@pytest.mark.parametrize("room", [*version.ROOMS, *version.METHODS, "report"])
def test_an_edit_of_a_room_that_computes_makes_every_stage_anew(
    room: str, edited: Callable[[str], None]
) -> None:
    """An edit of what only shows does not; methods count where they are used."""
    before = stage_key("fit", {"seed": 1}), version.job_code()
    edited(f"{room}/__init__.py")
    changed = stage_key("fit", {"seed": 1}) != before[0], version.job_code() != before[1]
    assert changed == (room in version.ROOMS, room != "report")


@pytest.mark.parametrize("file", ["attribution/fisher.py", "attribution/observe.py"])
def test_a_method_counts_where_it_is_used(file: str, edited: Callable[[str], None]) -> None:
    before = version.part_code("skip_exp.attribution.fisher.scores"), version.job_code()
    edited(file)
    assert version.part_code("skip_exp.attribution.fisher.scores") != before[0]
    assert version.job_code() != before[1]
    assert version.part_code("uniform") == ""  # a part of the rooms


@pytest.mark.parametrize("file", ["attribution/fisher.py", "pruning/allocate.py"])
def test_every_method_counts_for_a_custom_part(
    file: str,
    tmp_path: Path,
    edited: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "calling.py").write_text("from skip_exp.attribution.fisher import scores\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = version.part_code("calling.scores")
    edited(file)
    assert version.part_code("calling.scores") != before


def test_the_packages_of_a_custom_part_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "around"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py", "inner/method.py"):
        (package / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = {version.part_code("around.inner.method.scores")}
    for file in ("__init__.py", "inner/__init__.py"):
        (package / file).write_text("SCALE = 2\n")
        forget_all()
        found.add(version.part_code("around.inner.method.scores"))
    assert len(found) == 3


@pytest.mark.parametrize("place", ["", "site-packages"])
def test_a_custom_part_counts_with_the_custom_modules_that_it_imports(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / place
    name = "installed_package" if place else "their_package"
    package = root / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    far, helper, method = (package / f"{name}.py" for name in ("far", "scale", "method"))
    far.write_text("SCALE = 1\n")
    helper.write_text(f"from {name}.far import SCALE\n")
    method.write_text("import torch\n\n\ndef scores():\n    from . import scale\n")
    other = root / "unrelated.py"
    other.write_text("X = 1\n")
    monkeypatch.syspath_prepend(root)
    first = version.part_code(f"{name}.method.scores")
    for file, counts in ((far, True), (helper, True), (method, True), (other, False)):
        text = file.read_text()
        file.write_text(text + "EDITED = 1\n")
        version.part_code.cache_clear()
        version._read.cache_clear()
        assert (version.part_code(f"{name}.method.scores") != first) == counts
        file.write_text(text)


def test_an_edit_after_the_first_key_is_not_what_this_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first_part", "second_part"):
        (tmp_path / f"{name}.py").write_text("import their_helper\n")
    helper = tmp_path / "their_helper.py"
    helper.write_text("SIGN = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    version.part_code("first_part.x")
    before = version.part_code("second_part.x")
    helper.write_text("SIGN = -1\n")
    version.part_code.cache_clear()
    assert version.part_code("second_part.x") == before


@pytest.mark.parametrize("source", ["def broken(:\n", ""])
def test_a_part_that_cannot_be_imported_has_a_version_all_the_same(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_part.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert version.part_code("broken_part.x") and version.part_code("no_such_module.x")
