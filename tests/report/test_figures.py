import subprocess
import sys
import xml.etree.ElementTree as ET

import pandas as pd
import pytest

from skip_exp.report import figures, frame
from skip_exp.report.cells import gather
from tests.helpers.fakes import grid, result


def cells(found):
    return gather(frame.ordered(frame.rows(found))).cells


def elements(svg, name):
    return list(ET.fromstring(svg.replace("xlink:href", "href")).iter(name))


def points(**columns):
    return pd.DataFrame({"std": float("nan"), "title": "", **columns})


LINE = figures.Line(
    figures.STYLES[0],
    points(x=[0.0, 10.0], y=[0.0, 100.0], title=["p0", "p1 & <b>"]),
    pd.DataFrame({"x": [0.0, 10.0], "y": [0.0, 100.0]}),
)
PANEL = figures.Panel("a & <b>", "x", "y", [LINE], rule=50.0)


def test_styles_differ_by_more_than_colour_and_the_control_is_muted():
    styles = figures.styles(["b", "random", "a", "random (x=1)", "b"])
    assert styles["random"] == styles["random (x=1)"] == figures.CONTROL
    assert (styles["b"], styles["a"]) == (figures.STYLES[0], figures.STYLES[1])
    every = [*figures.STYLES, figures.CONTROL]
    assert len({style.marker for style in every}) == len({s.glyph for s in every}) == len(every)
    assert {style.colour for style in every} <= set(figures.INK)


def test_a_point_has_a_text_and_a_drawing_is_xml():
    svg = figures.draw(PANEL)
    (root,) = elements(svg, "svg")
    assert root.get("aria-label") == "a & <b>: y against x"
    assert [title.text for title in elements(svg, "title")] == ["p0", "p1 & <b>"]
    assert "majority class" in [text.text for text in elements(svg, "text")]


def test_points_are_where_the_axes_say():
    svg = figures.draw(figures.Panel("t", "x", "y", [LINE], x_range=(0, 20)))
    marks = [use for use in elements(svg, "use") if len(use)]
    (x0, y0), (x1, y1) = ((float(use.get("x")), float(use.get("y"))) for use in marks)
    left, width = 0.14 * figures.WIDTH, 0.82 * figures.WIDTH
    assert (x0, x1) == (pytest.approx(left, abs=0.1), pytest.approx(left + width / 2, abs=0.1))
    assert y0 > y1  # larger is higher


def test_colours_are_those_of_the_page_and_drawings_repeat():
    svg = figures.draw(PANEL)
    assert (
        "var(--c0)" in svg and figures.INK["c0"] not in svg and " id=" not in svg.split("defs")[0]
    )
    assert figures.draw(PANEL) == svg


def test_a_spread_is_a_bar():
    spread = figures.Line(
        LINE.style, points(x=[1.0, 2.0], y=[1.0, 2.0], std=[0.5, None]), LINE.path
    )
    alone = figures.Line(LINE.style, points(x=[1.0, 2.0], y=[1.0, 2.0]), LINE.path)
    panels = [figures.Panel("t", "x", "y", [line]) for line in (alone, spread)]
    without, with_bar = (len(elements(figures.draw(panel), "path")) for panel in panels)
    assert with_bar == without + 1


def test_speed_panels_need_a_final_score():
    dense = result("qnli", metric={"name": "accuracy", "dense": 0.5})
    found = [*grid(["sst2"], ["a", "b"], [0.3, 0.5], attributions=["taylor"]), dense]
    found += [result(data_is_sample=True)]
    panels, marks = figures.tradeoff(cells(found))
    assert [panel.title for panel in panels] == ["sst2", "sst2 *sample*"]
    assert set(marks) == {"a", "b", "minilm"}
    first, start, *others = panels[0].lines
    assert list(start.points["x"]) == [1.0] and start.hollow and len(others) == 2
    assert first.points["title"].iloc[0].startswith("a, ratio 0.3: ")
    assert first.points["title"].iloc[0].endswith("x, n=3")


def test_paths_of_pruning_start_from_dense_at_zero():
    scores = {"name": "accuracy", "dense": 0.8, "pruned": 0.5, "final": 0.7}
    panels, marks = figures.pruning(cells([result(metric=scores), result(attribution="random")]))
    (panel,) = panels
    assert (panel.title, panel.x_range, panel.rule) == ("sst2 · minilm", (0, 100), 51)
    assert list(marks) == ["activation_gradient", "random"]
    pruned, final = panel.lines[:2]
    assert pruned.path.to_numpy() == pytest.approx(pd.DataFrame([[0, 80], [50, 50]]).to_numpy())
    assert final.path.to_numpy() == pytest.approx(pd.DataFrame([[0, 80], [50, 70]]).to_numpy())
    assert pruned.hollow and not final.hollow
    assert list(final.points["title"]) == ["activation_gradient, final: 70.0 at 50 % pruned"]


def test_matplotlib_is_imported_where_something_is_drawn():
    code = "import sys, skip_exp.report.__main__; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
