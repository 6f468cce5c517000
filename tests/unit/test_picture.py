"""The bench's pictures: one dot a value, and nothing outside the frame."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from bench.picture import svg

SVG = "{http://www.w3.org/2000/svg}"


def test_every_value_is_a_dot_in_the_row_of_its_kind() -> None:
    values = {"power <cut>": [480.0, 500.0, 510.0, 0.0], "down": [3.0] * 200}
    root = ET.fromstring(svg("outage", values, {"power <cut>": 600.0}))
    dots = root.findall(f"{SVG}circle")
    assert len(dots) == 204
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    assert all(0 < float(dot.attrib["cx"]) < width and 0 < float(dot.attrib["cy"]) < height for dot in dots)
    assert [line.attrib["class"] for line in root.iter(f"{SVG}line")].count("limit") == 1
    assert "power <cut>" in [text.text for text in root.iter(f"{SVG}text")]


def test_the_median_is_where_it_belongs() -> None:
    root = ET.fromstring(svg("stall", {"a": [1.0, 10.0, 1000.0]}, {}))
    (median,) = (line for line in root.iter(f"{SVG}line") if line.attrib["class"] == "median")
    labels = {text.text: text.attrib["x"] for text in root.iter(f"{SVG}text")}
    assert median.attrib["x1"] == labels["10 ms"]
