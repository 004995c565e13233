"""An export's folder appears whole or not at all."""

import os
from pathlib import Path
from typing import Any

import pytest

from skip_exp import Skill
from skip_exp.commands.export import main
from skip_exp.errors import SkipError
from skip_exp.skill.export.onnx import write
from skip_exp.skill.export.onnx.write import Differences
from skip_exp.utils.files import check_out, new_folder
from tests.helpers.saved import Saved


def test_a_folder_in_use_is_left_alone(tiny: Saved, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    for out in ("full", "full/mine"):
        assert main([str(tiny.folder), str(tmp_path / out)]) == 2
        told = capsys.readouterr()
        assert told.err.startswith("error: ") and told.out == ""
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert main([str(tiny.folder), str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "empty/config.json").is_file()


def test_a_mount_point_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "volume")
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "volume")
    for out in ("volume", "link"):
        with pytest.raises(SkipError, match=rf"/{out}: "):
            check_out(tmp_path / out)
    check_out(tmp_path / "new")


def test_so_is_a_place_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(os, "access", lambda folder, _: asked.append(folder))
    with pytest.raises(SkipError, match="no permission"):
        check_out(tmp_path / "new/below")
    assert asked == [tmp_path.resolve()]


@pytest.mark.parametrize(
    ("int8", "found", "named"),
    [
        (False, (2e-4, 0.0), "--format onnx: logits .*2.0e-04"),
        (False, (float("nan"), 0.0), "--format onnx: logits .*nan"),
        (True, (9.0, 0.2), "--int8: .*0.2 on five texts"),
    ],
)
@pytest.mark.usefixtures("onnx_packages")
def test_onnx_that_differs_is_not_written(
    tiny: Saved,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    int8: bool,
    found: tuple[float, float],
    named: str,
) -> None:
    monkeypatch.setattr(write, "to_onnx", lambda *given: given[2].write_bytes(b"graph"))
    monkeypatch.setattr(write, "compare_onnx", lambda *_: Differences(*found))
    with pytest.raises(SkipError, match=named):
        Skill.load(tiny.folder).export(tmp_path / "out", "onnx", int8=int8)
    assert not list(tmp_path.iterdir())


def test_onnx_without_its_packages(
    tiny: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skill = Skill.load(tiny.folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SkipError, match=r"onnx is not installed: pip install 'skip_exp\[export\]'"):
        skill.export(tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_int8_is_for_onnx_alone(tiny: Saved, tmp_path: Path, capsys: Any) -> None:
    assert main([str(tiny.folder), str(tmp_path / "out"), "--int8"]) == 2
    assert "--int8: not for --format hf" in capsys.readouterr().err


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SkipError, match="No space"), new_folder(tmp_path / "x"):
        raise OSError(28, "No space left")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "x"):
        raise ZeroDivisionError
    assert not [*tmp_path.iterdir()]


def test_two_exports_do_not_share_a_temporary_folder(tmp_path: Path) -> None:
    with pytest.raises(SkipError, match="cannot be written"), new_folder(tmp_path / "x") as first:
        (first / "first").touch()
        with new_folder(tmp_path / "x") as second:
            (second / "second").touch()
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["second"]
