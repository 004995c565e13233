"""A tiny skill and its 8-bit ONNX export, made once for all workers: an export takes seconds."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from skip_exp import Skill
from skip_exp.backbones.load import load_backbone
from tests.helpers.saved import Saved


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """Backbones are read once per process; here once per test."""
    load_backbone.cache_clear()
    yield
    load_backbone.cache_clear()


@pytest.fixture(scope="session")
def onnx_folder(tiny: Saved, onnx_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its ONNX export with 8-bit weights; not to be changed."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # whose folders lie side by side
        root = root.parent
    folder = root / "int8"
    with pytest.MonkeyPatch.context() as patch, FileLock(root / "int8.lock"):

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("traced in the process, where another thread may be predicting")

        patch.setattr(torch.onnx, "export", refuse)
        if not folder.exists():
            Skill.load(tiny.folder).export(folder, "onnx", int8=True)
    return folder
