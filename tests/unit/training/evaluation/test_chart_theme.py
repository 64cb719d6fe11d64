"""A drawing as the page gets it: the same bytes each time, text as text, and nothing that runs or is fetched."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from training.evaluation.chart_theme import COLOURS, CURVE_POINTS_MAX, LINES, PlotArea, axis, draw, share_axis, thinned

pytestmark = pytest.mark.slow  # the first drawing of a process takes a second
ENDS = np.asarray([0.0, 1.0])
PLANE = PlotArea(share_axis("x", "customers contacted"), share_axis("y", "churners caught"))
DRAW_ONE = (
    "import numpy as np; from training.evaluation.chart_theme import PlotArea, draw, share_axis; "
    "ends = np.asarray([0.0, 1.0]); "
    "plane = PlotArea(share_axis('x', 'customers contacted'), share_axis('y', 'churners caught')); "
    "print(draw(plane.line('model', ends, ends), words='A line.'))"
)


def texts(drawing: str) -> list[str]:
    return [each.text or "" for each in ET.fromstring(drawing).iter("text")]  # noqa: S314 - our own text


def test_the_same_chart_gives_the_same_bytes_in_another_process(tmp_path) -> None:
    here = draw(PLANE.line("model", ENDS, ENDS), words="A line.")
    assert draw(PLANE.line("model", ENDS, ENDS), words="A line.") == here
    there = subprocess.run(
        [sys.executable, "-c", DRAW_ONE], capture_output=True, text=True, check=True, env={"HOME": str(tmp_path)}
    )
    assert there.stdout.rstrip("\n") == here


def test_axes_are_read_as_text() -> None:
    drawn = texts(draw(PLANE.line("model", ENDS, ENDS), words="A line."))
    ticks = [f"{share}\N{NO-BREAK SPACE}%" for share in (0, 25, 50, 75, 100)]
    assert drawn == [*ticks, "customers contacted", *ticks, "churners caught"]


def test_a_drawing_says_what_it_shows() -> None:
    dots = [{"x": 0.2, "y": 0.3, "text": "7 customers: score 0.200, left 0.300"}]
    root = ET.fromstring(draw(PLANE.line("guide", ENDS, ENDS), PLANE.dots(dots, "model", 6), words="Two & more."))  # noqa: S314
    assert (root.get("role"), root.get("aria-label")) == ("img", "Two & more.")
    assert [each.text for each in root.iter("title")] == ["7 customers: score 0.200, left 0.300"]


def test_hostile_text_stays_text() -> None:
    hostile = "</text></svg><script>alert(1)</script><a href=\"x\" onload='y'>&"
    plane = PlotArea(share_axis("x", hostile), share_axis("y", "y"))
    rows = [{"x": 0.5, "y": 0.5, "x2": 0.6, "y2": 0.6, "text": hostile}]
    drawn = draw(plane.notes(rows), plane.bars(rows, fill=COLOURS["count"]), words=hostile)
    root = ET.fromstring(drawn)  # noqa: S314 - our own text
    assert {each.tag for each in root.iter()} == {"svg", "g", "line", "path", "text", "title"}
    assert root.get("aria-label") == hostile
    assert texts(drawn).count(hostile) == 2
    assert [each.text for each in root.iter("title")] == [hostile]


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\ufffe", "\uffff", "\ud800"])
def test_a_character_that_xml_cannot_hold_is_replaced(character: str) -> None:
    drawn = draw(PLANE.notes([{"x": 0, "y": 0, "text": f"a{character}b"}]), words=f"c{character}d")
    assert "a\N{REPLACEMENT CHARACTER}b" in texts(drawn)
    assert 'aria-label="c\N{REPLACEMENT CHARACTER}d"' in drawn
    assert drawn.encode()


def test_no_data_is_fetched() -> None:
    layer = {"data": {"url": "http://127.0.0.1:9/rows.csv"}, "mark": "line", "encoding": {"x": PLANE.x, "y": PLANE.y}}
    with pytest.raises(ValueError, match="not allowed"):
        draw(layer, words="A line.")


def test_a_drawing_brings_no_style_script_id_or_reference() -> None:
    drawn = draw(*(PLANE.line(style, ENDS, ENDS) for style in LINES), words="Lines.")
    assert not re.search(r"\s(id|href|xlink:href|style|clip-path|xmlns\S*)=|<style|<script|url\(|http", drawn)


@pytest.mark.parametrize(("low", "high"), [(0, 10.2), (-11, 0), (-0.003, 0.004), (0, 1e-6), (-5000, 20000)])
def test_ticks_are_few_and_round_and_cover_the_curve(low: float, high: float) -> None:
    plane = PlotArea(share_axis("x", "x"), axis("y", "USD", (low, high), nice=5, tickCount=5))
    drawn = texts(draw(plane.line("model", ENDS, np.asarray([low, high])), words="A line."))
    ticks = [float(text.replace("\N{MINUS SIGN}", "-").replace(",", "")) for text in drawn[6:-1]]
    assert 3 <= len(ticks) <= 10
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert len({round((b - a) / (ticks[1] - ticks[0]), 3) for a, b in pairwise(ticks)}) == 1


def test_a_long_curve_is_thinned_but_keeps_its_ends() -> None:
    xs = np.linspace(0, 1, 100_000)
    kept = list(zip(*thinned(xs, xs**2), strict=True))
    assert len(kept) <= CURVE_POINTS_MAX
    assert (kept[0], kept[-1]) == ((0.0, 0.0), (1.0, 1.0))


def test_a_curve_is_drawn_in_the_order_of_its_points() -> None:
    drawn = draw(
        PLANE.line("model", np.asarray([0.0, 0.5, 0.5, 0.25]), np.asarray([0.0, 1.0, 0.5, 0.0])), words="A line."
    )
    assert re.search(r'd="M0,218L151,0L151,109L75\.5,218"', drawn)
