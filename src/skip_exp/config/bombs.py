"""YAML that grows when it is read: aliases of aliases, a kilobyte that is a billion values."""

import math
from pathlib import Path

import yaml

MOST = 100_000  # values of one file, aliases written out


def bomb(folder: Path) -> str | None:
    """One line for the first file of a configuration folder whose aliases grow beyond `MOST`.

    OmegaConf writes every alias out, so that the memory would be gone before anything is refused.
    """
    for depth in ("*.yaml", "*/*.yaml", "*/*/*.yaml"):
        for file in sorted(folder.glob(depth)):
            content = file.read_bytes() if file.is_file() else b""
            if b"*" not in content or b"&" not in content:
                continue
            try:
                root = yaml.compose(content, yaml.SafeLoader)
            except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
                continue  # told by Hydra, where the file is used
            if (count := _size(root, {})) > MOST:
                what = "endless" if count == math.inf else f"{count:.0f}"
                return f"{file}: its aliases stand for {what} values; must be at most {MOST}"
    return None


def _size(node: yaml.Node | None, known: dict[int, float]) -> float:
    """Values of a node with every alias written out; infinite where it holds itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is known
        parts = [
            part for item in node.value for part in (item if isinstance(item, tuple) else [item])
        ]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]
