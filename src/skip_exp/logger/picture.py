"""Shows what each layer kept, as a picture."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from skip_exp.models.sites import Site
from skip_exp.utils import files

PICTURE = "keep.png"  # in the job's folder


def save(keep_sizes: Mapping[str, Sequence[int]], path: Path | str) -> None:
    """Draw ``keep_sizes`` ({site: [kept, total]}) as a PNG. Raises OSError."""
    content = BytesIO()
    draw(keep_sizes).savefig(content, format="png", dpi=120, bbox_inches="tight")
    files.replace(Path(path), content.getvalue())


def draw(keep_sizes: Mapping[str, Sequence[int]]) -> Figure:
    """Heat map of the fraction kept: a row per kind of site, a column per layer."""
    sites = {Site(name): sizes for name, sizes in keep_sizes.items()}
    rows = sorted({site.like for site in sites})
    layers = range(1 + max(site.sublayer.layer for site in sites))
    shares = np.full((len(rows), len(layers)), np.nan)
    figure = Figure(figsize=(1.6 + 0.62 * len(layers), 0.9 + 0.5 * len(rows)))
    axes = figure.subplots()
    for site, (kept, total) in sites.items():
        row, column = rows.index(site.like), site.sublayer.layer
        shares[row, column] = kept / max(total, 1)
        color = "white" if 2 * kept > total else "black"
        axes.text(column, row, str(kept), color=color, ha="center", va="center", fontsize=7)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set_xticks(layers, [str(layer + 1) for layer in layers])
    axes.set_yticks(range(len(rows)), [row.replace(".", " ") for row in rows])
    axes.set_xlabel("layer")
    axes.set_title("units kept", fontsize=9)
    figure.colorbar(image, label="fraction kept")
    return figure
