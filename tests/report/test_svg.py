import xml.etree.ElementTree as ET

import pytest

from skip_exp.report import svg

PLOT = svg.Plot(
    "a & <b>",
    "x",
    "y",
    [
        svg.Series(
            "s", "0", [svg.Point(0, 0, "p0"), svg.Point(10, 100, "p1", 5)], [(0, 0), (10, 100)]
        )
    ],
    rules=[(50, "half")],
)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 52, [0, 20, 40, 60]),
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (1, 2.35, [1, 1.5, 2, 2.5]),
        (-0.1, 0.1, [-0.1, -0.05, 0, 0.05, 0.1]),
    ],
)
def test_ticks(low, high, expected):
    assert svg.ticks(low, high) == expected


def test_ticks_of_one_value_enclose_it():
    found = svg.ticks(3, 3)
    assert found[0] < 3 < found[-1]


def test_points_are_where_the_axes_say():
    plot = svg.Plot(
        "t", "x", "y", [svg.Series("s", "0", [svg.Point(0, 0, "a"), svg.Point(10, 10, "b")])]
    )
    root = ET.fromstring(svg.draw(plot))
    places = [each.get("transform") for each in root.iter("g")]
    bottom, right = svg.HEIGHT - svg.BOTTOM, svg.WIDTH - svg.RIGHT
    assert places == [
        f"translate({svg.LEFT:.1f},{bottom:.1f})",
        f"translate({right:.1f},{svg.TOP:.1f})",
    ]


def test_drawing_is_xml_with_a_text_for_every_point():
    root = ET.fromstring(svg.draw(PLOT))
    assert root.get("aria-label") == "a & <b>: y against x"
    assert [each.text for each in root.iter("title")] == ["p0", "p1"]
    assert "half" in [each.text for each in root.iter("text")]


def test_nothing_to_plot_draws_nothing():
    assert svg.draw(svg.Plot("t", "x", "y", [])) == ""


def test_heat_says_its_values_and_leaves_gaps():
    rows = [svg.HeatRow("ffn 0.5", [0.5, None, 1.0], ["a", "b", "c"])]
    root = ET.fromstring(svg.heat("kept", ["0", "1", "2"], rows))
    cells = list(root.iter("g"))
    assert [each.get("class") for each in cells] == ["h5", "h10"]
    assert [each.find("text").text for each in cells] == ["50", "100"]
