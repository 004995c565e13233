"""Shows what each layer kept, as a picture and as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from skip_exp.models.sites import Site

FILE = "keep.png"  # in the job's folder


def save(keep_sizes: Mapping[str, Sequence[int]], path: Path | str) -> None:
    """Draw ``keep_sizes`` ({site: [kept, total]}) as a PNG.

    Raises:
        OSError: the file cannot be written; a partial file is removed.
    """
    try:
        draw(keep_sizes).savefig(path, dpi=120, bbox_inches="tight")
    except OSError:
        Path(path).unlink(missing_ok=True)
        raise


def table(keep_sizes: Mapping[str, Sequence[int]]) -> tuple[list[str | int], list[list[Any]]]:
    """Columns and one row per site, for a W&B table."""
    rows = [
        [name, Site(name).sublayer.layer, Site(name).kind, kept, of, _share((kept, of))]
        for name, (kept, of) in keep_sizes.items()
    ]
    return ["site", "layer", "kind", "kept", "of", "fraction"], rows


def draw(keep_sizes: Mapping[str, Sequence[int]]) -> Figure:
    """Heat map of the fraction kept: a row per kind of site, a column per layer."""
    cells = {}
    for name, (kept, total) in keep_sizes.items():
        site = Site(name)
        cells[site.like.replace(".", " "), site.sublayer.layer] = (kept, total)
    rows = sorted({row for row, _ in cells})
    layers = range(1 + max(layer for _, layer in cells))
    figure = Figure(figsize=(1.6 + 0.62 * len(layers), 0.9 + 0.5 * len(rows)))
    axes = figure.subplots()
    shares = [[_share(cells.get((row, layer))) for layer in layers] for row in rows]
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for (row, layer), (kept, total) in cells.items():
        color = "white" if 2 * kept > total else "black"
        place = (layer, rows.index(row))
        axes.text(*place, str(kept), color=color, ha="center", va="center", fontsize=7)
    axes.set_xticks(list(layers))
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("layer")
    axes.set_title("units kept", fontsize=9)
    figure.colorbar(image, label="fraction kept")
    return figure


def _share(cell: Sequence[int] | None) -> float:
    return float("nan") if cell is None else cell[0] / max(cell[1], 1)
