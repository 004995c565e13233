"""The code version of a key: the rooms that compute count, and custom parts with their helpers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from skip_exp.cache import version


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
    helper, method = package / "scale.py", package / "method.py"
    helper.write_text("SCALE = 1\n")
    method.write_text("import torch\n\n\ndef scores():\n    from . import scale\n")
    other = root / "unrelated.py"
    other.write_text("X = 1\n")
    monkeypatch.syspath_prepend(root)
    first = version.part_code(f"{name}.method.scores")
    for file, counts in ((helper, True), (method, True), (other, False)):
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
