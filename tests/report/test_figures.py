import re
import xml.etree.ElementTree as ET

import pytest

from skip_exp.report import figures
from skip_exp.report.cells import gather
from tests.helpers.fakes import frame_of, result


def cells(found):
    return gather(frame_of(found)).cells


def drawn(draw, *found):
    """Figures by title as XML, and the legend."""
    drawings, legend = draw(cells(found))
    parsed = {title: ET.fromstring(svg.replace("xlink:", "")) for title, svg in drawings}
    return parsed, legend


def inside(svg, name):
    """What each element of a drawing is: its text, or where it is (x, y)."""
    elements = svg.iter(name)
    if name == "text":
        return [element.text for element in elements]
    return [(float(element.get("x")), float(element.get("y"))) for element in elements]


def paths(svg, colour):
    """Points of the lines and bars of a colour; what has a name is the shape of a mark."""
    style = f"stroke: var(--{colour})"
    lines = [path for path in svg.iter("path") if style in path.get("style", "")]
    lines = [path.get("d", "") for path in lines if not path.get("id")]
    return [re.findall(r"[ML] ([\d.]+) ([\d.]+)", line) for line in lines if line]


def test_styles_differ_by_more_than_colour_and_the_control_is_muted():
    styles = figures.styles(["b", "random", "a", "random (x=1)", "b"])
    assert styles["random"] == styles["random (x=1)"] == figures.CONTROL
    assert (styles["b"], styles["a"]) == (figures.STYLES[0], figures.STYLES[1])
    every = [*figures.STYLES, figures.CONTROL]
    assert len({style.marker for style in every}) == len({s.glyph for s in every}) == len(every)
    assert {style.colour for style in every} <= set(figures.INK)


def test_colours_are_those_of_the_page_and_drawings_repeat():
    found = cells([result(backbone="a & <b>")])
    ((title, svg),), _ = figures.tradeoff(found)
    assert title == "sst2" and "accuracy, % against speed-up, times dense" in svg
    assert "var(--c0)" in svg and figures.INK["c0"] not in svg
    assert "<g id=" not in svg and "clip-path" not in svg and "http" not in svg
    assert figures.tradeoff(found) == ([(title, svg)], {"a & <b>": figures.STYLES[0]})
    ((title, svg),), _ = figures.pruning(found)
    assert title == "sst2 · a & <b>" and 'aria-label="sst2 · a &amp; &lt;b&gt;: ' in svg


def test_paths_of_pruning_start_from_dense_at_zero():
    scores = {"name": "accuracy", "dense": 0.8, "pruned": 0.5, "final": 0.7}
    shown, legend = drawn(figures.pruning, result(metric=scores))
    ((title, svg),) = shown.items()
    assert title == "sst2 · minilm" and list(legend) == ["activation_gradient", figures.MAJORITY]
    texts = set(inside(svg, "text"))
    assert {"0", "100"} <= texts and figures.MAJORITY not in texts  # which would cover a curve
    assert figures.MAJORITY not in drawn(figures.pruning, result(metric=scores, majority={}))[1]
    left, width = 0.14 * figures.WIDTH, 0.82 * figures.WIDTH
    pruned, final = paths(svg, "c0")
    for path in (pruned, final):
        assert [float(x) for x, _ in path] == pytest.approx([left, left + width / 2], abs=0.1)
    assert pruned[0] == final[0]  # dense
    assert 0 < float(final[0][1]) < float(final[1][1]) < float(pruned[1][1])  # higher is better
