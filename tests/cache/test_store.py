"""A stage is computed once; a damaged entry is computed again, never believed."""

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
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
from skip_exp.phases.fit import fit_dense
from skip_exp.phases.prune import score_neurons

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
        stage_key(count_words, {"model": torch.nn.Linear(1, 1)})
    first = stage_key(count_words, {"x": 1, "y": [2]})
    assert first == stage_key(count_words, {"y": (2,), "x": 1})
    assert first != stage_key(count_words, {"x": 1, "y": [3]})
    assert first != stage_key(fit_dense, {"x": 1, "y": [2]})


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
    """As a new process, which reads the sources anew."""
    for known in vars(version).values():
        if hasattr(known, "cache_clear"):
            known.cache_clear()


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    forget_all()
    yield
    forget_all()


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``edited("data/rows.py")``: from then on, the package's file has another content."""
    read = version._read

    def edit(name: str) -> None:
        forget_all()
        monkeypatch.setattr(
            version,
            "_read",
            lambda path: read(path) + (b"#" if str(path).endswith(f"skip_exp/{name}") else b""),
        )

    return edit


FISHER = "skip_exp.attribution.fisher.scores"


def list_keys() -> dict[str, str]:
    return {
        "tune": stage_key(fit_dense, {"seed": 1}),
        "attribute": stage_key(score_neurons, {"seed": 1}),
        "job": version.job_code(),
        "fisher": version.parts_code(FISHER),
        "int8": version.code_of("skip_exp.forms.registry"),
    }


TRAINING = {"tune", "attribute", "job"}
ALL = {*TRAINING, "fisher", "int8"}


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("data/batches.py", ALL),
        ("models/attention.py", ALL),  # by a relative import
        ("outcomes/many_labels.py", {*TRAINING, "int8"}),
        ("training/module.py", TRAINING),
        ("callbacks/fit.py", TRAINING),
        ("phases/prune.py", {"attribute", "job"}),
        ("pruning/allocate.py", {"attribute", "job"}),
        ("skill/ranges.py", {"job", "int8"}),  # a job stores them
        ("skill/export/onnx/trace.py", {"job", "int8"}),
        ("attribution/fisher.py", {"fisher"}),
        ("attribution/observe.py", {"fisher"}),
        ("attribution/taylor.py", set()),
        ("report/tables.py", set()),
        ("commands/answer.py", set()),
        ("within/run.py", set()),
    ],
)
def test_code_counts_where_it_is_imported(
    file: str, stale: set[str], edited: Callable[[str], None]
) -> None:
    before = list_keys()
    edited(file)
    after = list_keys()
    assert {name for name in before if before[name] != after[name]} == stale
    assert version.parts_code("uniform") == version.parts_code()  # a part of every job


@pytest.mark.parametrize("library", ["torch", "sklearn", "scipy", "hydra"])
def test_a_library_counts_by_its_version(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list_keys()
    versions = version.find_version
    forget_all()
    monkeypatch.setattr(
        version, "find_version", lambda name: "0" if name == library else versions(name)
    )
    after = list_keys()
    assert all(before[name] != after[name] for name in TRAINING)


def test_a_package_counts_by_its_version_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its distribution is called; a module of the user's that hides it by its content."""
    site, own = tmp_path / "site", tmp_path / "own"
    for folder in (site / "borrowed_package", site / "borrowed_dist.dist-info", own):
        folder.mkdir(parents=True)
    package, hidden = site / "borrowed_package/__init__.py", own / "borrowed_package.py"
    package.write_text("X = 1\n")
    (site / "borrowed_dist.dist-info/RECORD").write_text("borrowed_package/__init__.py,,\n")
    about = site / "borrowed_dist.dist-info/METADATA"
    (own / "borrowing_part.py").write_text("import borrowed_package\n")
    codes = []

    def note(file: Path, text: str) -> bool:
        """Whether what is now in ``file`` makes another version."""
        file.write_text(text)
        forget_all()
        importlib.invalidate_caches()
        codes.append(version.parts_code("borrowing_part.scores"))
        return codes[-1] not in codes[:-1]

    monkeypatch.syspath_prepend(site)
    monkeypatch.syspath_prepend(own)
    assert note(about, "Name: borrowed-dist\nVersion: 1\n")
    assert version.find_version("borrowed_package") == "1"
    assert not note(package, "X = 2\n")
    assert note(about, "Name: borrowed-dist\nVersion: 2\n")
    assert note(hidden, "X = 3\n") and note(hidden, "X = 4\n")
    assert not version.find_version("borrowed_package")


def test_the_code_of_a_job_is_all_that_its_stages_run() -> None:
    """No module that a job imports is missing from its key."""
    program = (
        "import sys, skip_exp.pipeline\n"
        "from skip_exp.cache import version\n"
        "read = version._read\n"
        "paths = []\n"
        "version._read = lambda path: paths.append(str(path)) or read(path)\n"
        "version.job_code()\n"
        "files = [getattr(m, '__file__', None) for n, m in sys.modules.items()\n"
        "         if n.split('.')[0] == 'skip_exp']\n"
        "print(sorted({*files} - {*paths}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_nothing_is_imported_for_a_code_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud/__init__.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "loud/method.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = version.parts_code("loud.method.scores")
    (tmp_path / "loud/method.py").write_text("X = 1\n")
    forget_all()
    assert version.parts_code("loud.method.scores") != before


def test_what_only_types_need_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import typed_only\n"
    (tmp_path / "typed_part.py").write_text(guarded)
    (tmp_path / "typed_only.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = version.parts_code("typed_part.x")
    (tmp_path / "typed_only.py").write_text("X = 1\n")
    forget_all()
    assert version.parts_code("typed_part.x") == before


def test_the_packages_of_a_custom_part_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "around"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py", "inner/method.py"):
        (package / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = {version.parts_code("around.inner.method.scores")}
    for file in ("__init__.py", "inner/__init__.py"):
        (package / file).write_text("SCALE = 2\n")
        forget_all()
        found.add(version.parts_code("around.inner.method.scores"))
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
    first = version.parts_code(f"{name}.method.scores")
    for file, counts in ((far, True), (helper, True), (method, True), (other, False)):
        text = file.read_text()
        file.write_text(text + "EDITED = 1\n")
        forget_all()
        assert (version.parts_code(f"{name}.method.scores") != first) == counts
        file.write_text(text)


def test_an_edit_after_the_first_key_is_not_what_this_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first_part", "second_part"):
        (tmp_path / f"{name}.py").write_text("import their_helper\n")
    helper = tmp_path / "their_helper.py"
    helper.write_text("SIGN = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    version.parts_code("first_part.x")
    before = version.parts_code("second_part.x")
    helper.write_text("SIGN = -1\n")
    version.code_of.cache_clear()
    assert version.parts_code("second_part.x") == before


@pytest.mark.parametrize("source", ["def broken(:\n", ""])
def test_a_part_that_cannot_be_imported_has_a_version_all_the_same(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_part.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert version.parts_code("broken_part.x") and version.parts_code("no_such_module.x")
