"""Plots are well-formed, escaped, and put numbers where they belong."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.report import plots
from alignment.report.text import escape, number, percent, seconds

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert("x")</script>&\x00\u202e'


def all_plots(name: str, values: list[float]) -> list[plots.Svg]:
    return [
        plots.intervals(
            [(name, v, v - 0.1, v + 0.1) for v in values], reference=0.5, x_label=name, title=name
        ),
        plots.bars([(name, v) for v in values], x_label=name, title=name),
        plots.histogram({name: values, "none": []}, x_label=name, title=name),
        plots.lines(
            {name: (range(len(values)), values), "b": ([], [])}, x_label=name, y_label=name, title=name
        ),
        plots.curves(
            {
                name: plots.Curve(
                    [(i, v, v - 1, v + 1) for i, v in enumerate(values)], (range(len(values)), *[values] * 3)
                ),
                "b": plots.Curve([]),
            },
            x_label=name,
            title=name,
        ),
    ]


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=20), st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=4))
def test_any_name_and_any_numbers_give_well_formed_svg(name: str, values: list[float]) -> None:
    for svg in all_plots(name, values):
        ET.fromstring(svg)
        assert "nan" not in re.sub(r"<(text|title).*?</\1>", "", svg)


def test_markup_in_names_is_text() -> None:
    for svg in all_plots(EVIL, [0.2, 0.7]):
        assert "<script" not in svg
        assert "&lt;script" in svg


def test_an_interval_is_drawn_to_scale() -> None:
    svg = plots.intervals([("a", 0.5, 0.25, 0.75)], bounds=(0, 1))
    root = ET.fromstring(svg)
    circle = root.find(f".//{SVG}circle")
    assert circle is not None
    left, right = plots._label_width(["a"]), plots.WIDTH - 148
    assert float(circle.get("cx", "")) == pytest.approx((left + right) / 2, abs=0.1)
    assert "0.500 [0.250, 0.750]" in svg


def test_histogram_counts_every_value_once() -> None:
    svg = plots.histogram({"a": [0, 0, 0, 1]}, bins=2)
    path = ET.fromstring(svg).find(f".//{SVG}path")
    assert path is not None
    heights = [float(y) for y in re.findall(r"L[\d.]+ ([\d.]+)", path.get("d", ""))]
    base = heights[-1]
    assert (base - heights[0]) == pytest.approx(3 * (base - heights[2]))  # three values against one


def test_a_nan_breaks_the_line() -> None:
    svg = plots.lines({"loss": ([0, 1, 2, 3], [1.0, 2.0, math.nan, 3.0])})
    path = ET.fromstring(svg).find(f".//{SVG}path")
    assert path is not None
    assert path.get("d", "").count("M") == 2


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_inside_and_few(low: float, width: float) -> None:
    at = plots.ticks(low, low + width)
    assert 2 <= len(at) <= 11
    assert all(low - 1e-6 * width - 1e-9 <= t <= low + width * (1 + 1e-6) + 1e-9 for t in at)


def test_ticks_by_hand() -> None:
    assert plots.ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert plots.ticks(0.45, 0.85) == [0.5, 0.6, 0.7, 0.8]
    assert plots.ticks(3, 3) == [3]
    assert plots.tick_labels([0.4, 0.6]) == ["0.4", "0.6"]
    assert plots.tick_labels([-1000, 0]) == ["−1,000", "0"]
    assert plots.tick_labels([0, 0.25, 0.5]) == ["0.00", "0.25", "0.50"]


def test_numbers_read_well() -> None:
    assert [number(v) for v in (0.7034, 12345, -2.5, 123.456, 1.2e-5, None, math.nan, 0)] == [
        "0.703", "12,345", "−2.50", "123", "1.20e-05", "–", "n/a", "0",
    ]  # fmt: skip
    assert (percent(0.703), percent(None)) == ("70%", "–")
    assert [seconds(v) for v in (4.21, 59.99, 185, 7800)] == [
        "4.2 s",
        "1 min 00 s",
        "3 min 05 s",
        "2 h 10 min",
    ]


def test_escape_shows_what_cannot_be_seen() -> None:
    assert escape("a\x00b\u202ec\ud800") == "a␀b&lt;U+202E&gt;c?"
    assert escape("'\"<&>") == "&#x27;&quot;&lt;&amp;&gt;"
