"""Chart style and SVG rendering: charts are specified in Vega-Lite and rendered by vl-convert.

Used by every page that shows a chart. A chart is rendered once for light and dark mode: each colour is a CSS variable
of the page's style sheet, which must define the names in :data:`COLOURS`. Rendering needs no browser, no network and
no installed font, and the same chart gives the same bytes. See docs/decisions/0043-charts.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup

from training.metrics.profit import FloatArray

Spec = dict[str, Any]
"""A fragment of a Vega-Lite specification: a layer, a mark, a channel."""
Records = list[dict[str, Any]]
"""The data of a layer, one dict per mark. Numbers are Python's, none missing."""

WIDTH: Final = 360
HEIGHT: Final = 270
"""Size of one chart with its margins, in CSS pixels on a phone; a page stretches it to its width."""
MARGINS: Final = {"left": 46, "right": 12, "top": 12, "bottom": 40}
VEGA_LITE: Final = "6.4"
"""The version of Vega-Lite: a newer one may render other bytes."""
STANDALONE_WIDTH: Final = 720
"""Width of a chart in a file of its own, in CSS pixels."""
_ROOT_BLOCK: Final = re.compile(r":root\s*\{[^}]*\}")
CURVE_POINTS_MAX: Final = 240
"""Maximum number of points of a curve: more can't be distinguished at this width."""
PERCENT: Final = "round(datum.value * 100) + '\N{NO-BREAK SPACE}%'"
"""Vega expression of a tick's text: 0.5 -> "50 %"."""
TEXT: Final = {"field": "text", "type": "nominal"}
SHADES: Final = tuple(f"v{shade}" for shade in range(7))
"""Colour names from a low value to a high one."""
NO_SHADE: Final = "vx"
"""Colour name of values without a rank."""
COLOURS: Final = {
    name: f"var(--{name})"
    for name in ("ink", "soft", "grid", "guide", "model", "baseline", "mark", "count", "card", *SHADES, NO_SHADE)
}
LINES: Final[dict[str, Spec]] = {
    "model": {"stroke": COLOURS["model"], "strokeWidth": 2},
    "baseline": {"stroke": COLOURS["baseline"], "strokeWidth": 1.6, "strokeDash": [5, 3]},
    "guide": {"stroke": COLOURS["guide"], "strokeWidth": 1, "strokeDash": [2, 3]},
    "zero": {"stroke": COLOURS["guide"], "strokeWidth": 1},
    "drop": {"stroke": COLOURS["mark"], "strokeWidth": 1, "strokeDash": [3, 3]},
    "interval": {"stroke": COLOURS["model"], "strokeWidth": 1.2},
}
"""Line style -> mark properties."""
CONFIG: Final[Spec] = {
    "background": None,
    "view": {"stroke": None},
    # Vega writes ARIA labels for each mark; the page has one label per chart, and a mark may have a description.
    "mark": {"aria": False},
    "line": {"strokeJoin": "round"},
    "text": {"font": "inherit", "fontSize": 11, "fill": COLOURS["ink"]},
    "axis": {
        "aria": False,
        "domain": False,
        "ticks": False,
        "labelFont": "inherit",
        "labelFontSize": 11,
        "labelColor": COLOURS["soft"],
        # Vega measures whether labels fit with the machine's fonts.
        "labelOverlap": False,
        "labelFlush": False,
        "labelBound": False,
        "labelPadding": 6,
        "gridColor": COLOURS["grid"],
        "titleFont": "inherit",
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titleColor": COLOURS["soft"],
    },
    # The position of titles must not depend on label widths measured with a machine's fonts.
    "axisX": {"grid": False, "titleY": 25},
    "axisY": {"titleX": -40, "titleAngle": -90, "titleBaseline": "middle", "titleAlign": "center"},
}
_LONG: Final = re.compile(r"\d+(?:\.\d+)?e-?\d+|\d+\.\d+")
_UNUSED: Final = re.compile(r' xmlns(?::\w+)?="[^"]*"|<path class="(?:back|fore)ground"[^>]*/>')
_NO_XML: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Chart:
    """A rendered chart with its title and caption; ``key`` is its id on the page."""

    key: str
    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class PlotArea:
    """Two axes, each a Vega-Lite encoding channel; each method returns one layer on them."""

    x: Spec
    y: Spec

    def line(self, style: str, xs: FloatArray, ys: FloatArray) -> Spec:
        """Return a curve through the points; ``style`` is a key of :data:`LINES`."""
        points = [{"x": x, "y": y, "i": i} for i, (x, y) in enumerate(zip(*thinned(xs, ys), strict=True))]
        order = {"field": "i", "type": "quantitative"}
        return self.layer(points, {"type": "line", **LINES[style]}, order=order)

    def dots(self, rows: Records, colour: str, diameter: float, **mark: Any) -> Spec:
        """Return a point per row at ``x``, ``y`` with ``text`` as its tooltip; ``diameter`` in pixels."""
        size = math.pi * diameter**2 / 4
        mark |= {"type": "circle", "aria": True, "size": size, "fill": COLOURS[colour], "opacity": 1}
        return self.layer(rows, mark, description=TEXT)

    def mark(self, x: float, y: float, text: str) -> Spec:
        """Return the highlighted point of a chart, with ``text`` as its tooltip."""
        return self.dots([{"x": x, "y": y, "text": text}], "mark", 10, stroke=COLOURS["card"], strokeWidth=1.5)

    def intervals(self, rows: Records) -> Spec:
        """Return a vertical line from ``y`` to ``y2`` at each row's ``x``."""
        return self.layer(rows, {"type": "rule", **LINES["interval"]}, y2={"field": "y2"})

    def bars(self, rows: Records, **mark: Any) -> Spec:
        """Return a rectangle per row, ``x`` to ``x2`` and ``y`` to ``y2``, with ``text`` as its tooltip."""
        mark |= {"type": "rect", "aria": True}
        return self.layer(rows, mark, x2={"field": "x2"}, y2={"field": "y2"}, description=TEXT)

    def notes(self, rows: Records, **mark: Any) -> Spec:
        """Return each row's ``text`` at its ``x``, ``y``; ``mark`` sets alignment and offset."""
        return self.layer(rows, {"type": "text", **mark}, text=TEXT)

    def layer(self, rows: Records, mark: Spec, **channels: Spec) -> Spec:
        """Return a layer of any mark; ``channels`` are Vega-Lite's, in addition to ``x`` and ``y``."""
        return {"data": {"values": rows}, "mark": mark, "encoding": {"x": self.x, "y": self.y, **channels}}


def axis(field: str, title: str, domain: tuple[float, float], *, nice: int = 0, **more: Any) -> Spec:
    """Return the channel of a number: title (with the unit), domain, and other axis properties.

    With ``nice`` the domain is extended to round numbers, with about that many ticks.
    """
    scale = {"domain": list(domain), **({"nice": nice} if nice else {})}
    return {"field": field, "type": "quantitative", "axis": {"title": title, **more}, "scale": scale}


def share_axis(field: str, title: str) -> Spec:
    """Return the channel of a share, from 0 to 100 %."""
    return axis(field, title, (0, 1), values=[0, 0.25, 0.5, 0.75, 1], labelExpr=PERCENT)


def thinned(xs: FloatArray, ys: FloatArray) -> tuple[list[float], list[float]]:
    """Return at most about CURVE_POINTS_MAX points, evenly along the curve, with the first and the last."""
    if len(xs) <= CURVE_POINTS_MAX:
        return list(map(float, xs)), list(map(float, ys))
    spans = (float(np.ptp(xs)) or 1.0, float(np.ptp(ys)) or 1.0)
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(xs) / spans[0], np.diff(ys) / spans[1]))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS_MAX)))
    return [float(xs[i]) for i in kept], [float(ys[i]) for i in kept]


def draw(
    *layers: Spec, words: str, width: int = WIDTH, height: int = HEIGHT, margins: Mapping[str, int] = MARGINS
) -> Markup:
    """Return the layers as one ``<svg>`` for a page.

    Parameters
    ----------
    layers
        Vega-Lite layers with inline data, the bottom one first. Nothing is fetched.
    words
        The text alternative.
    width, height
        Pixels, the margins included.
    margins
        ``left``, ``right``, ``top`` and ``bottom`` of the plotting area, for the axes and their titles.

    Returns
    -------
    Markup
        Text stays text, in the font of the page; a mark's description becomes its ``<title>``. No script, no style, no
        id, no external reference. Text from the data is escaped.

    Raises
    ------
    ValueError
        If Vega-Lite can't draw a layer, or its data would have to be fetched.
    """
    import vl_convert

    spec = {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGA_LITE}.json",
        "autosize": "none",
        "padding": dict(margins),
        "width": width - margins["left"] - margins["right"],
        "height": height - margins["top"] - margins["bottom"],
        "layer": layers,
    }
    # A character that is invalid in XML would end the process: vl-convert measures each text as XML.
    spec, words = _as_xml(spec), _as_xml(words)
    drawn = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE, config=CONFIG, allowed_base_urls=[])
    return Markup(_for_page(drawn, words))  # noqa: S704 - what the data holds was escaped when the tree was written


def chart(key: str, title: str, words: str, caption: str, layers: Sequence[Spec]) -> Chart:
    """Return a chart of the default size; ``words`` is its text alternative."""
    return Chart(key, title, caption, draw(*layers, words=f"{title}. {words}"))


def standalone(svg: str, style_sheet: str) -> str:
    """Return a chart of a page as an SVG file that a browser shows by itself.

    Parameters
    ----------
    svg
        What :func:`draw` returned.
    style_sheet
        CSS whose first ``:root`` block defines the colours of :data:`COLOURS` in light mode.
    """
    root = ET.fromstring(svg)  # noqa: S314 - drawn by this module
    width, height = (float(each) for each in root.attrib["viewBox"].split()[2:])
    scale = STANDALONE_WIDTH / width
    root.attrib |= {
        "xmlns": "http://www.w3.org/2000/svg",
        "width": str(STANDALONE_WIDTH),
        "height": f"{height * scale:.0f}",
        "font-family": "sans-serif",
    }
    colours = _ROOT_BLOCK.search(style_sheet)
    style, ground = ET.Element("style"), ET.Element("rect")
    style.text = colours[0] if colours else ""
    ground.attrib |= {"width": "100%", "height": "100%", "fill": COLOURS["card"]}
    root.insert(0, style)
    root.insert(1, ground)
    return ET.tostring(root, encoding="unicode") + "\n"


def _as_xml(value: Any) -> Any:
    """Return a text, or all texts of a specification, with U+FFFD for each character invalid in XML."""
    if isinstance(value, str):
        return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, Mapping):
        return {name: _as_xml(each) for name, each in value.items()}
    return [_as_xml(each) for each in value] if isinstance(value, list | tuple) else value


def _for_page(drawn: str, words: str) -> str:
    """Return Vega's SVG without name spaces, its own sizes, empty frames and long decimals."""
    root = ET.fromstring(_UNUSED.sub("", drawn))  # noqa: S314 - drawn just now
    for element in root.iter():
        said = element.attrib.pop("aria-label", "")
        for name in ("role", "aria-roledescription", "aria-hidden", "pointer-events", "stroke-miterlimit"):
            element.attrib.pop(name, None)
        for name in {"d", "transform"} & element.attrib.keys():
            element.set(
                name, _LONG.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), element.attrib[name])
            )
        if said:
            ET.SubElement(element, "title").text = said
    for name in ("class", "version", "width", "height"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": words}
    return ET.tostring(root, encoding="unicode")
