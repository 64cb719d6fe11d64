"""Generate docs/architecture.svg from docs/architecture.toml and docs/architecture.md.

Run by `uv run poe diagram` after either file was changed. The TOML file declares the packages, their rooms and the
layout; the numbered sections of the page determine which rooms a number marks. Positions and sizes are computed and
no text is measured, so that every machine writes the same bytes.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from configs.settings import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"
SOURCE = DOCS / "architecture.toml"
PAGE = DOCS / "architecture.md"
DRAWING = DOCS / "architecture.svg"

WIDTH, EDGE, INSET = 1000, 16, 12
BOX, BOX_HEIGHT, BETWEEN, STACKED = 160, 46, 36, 10
HEAD, ARROW = 32, 26
LETTER, SMALL_LETTER, NUMBER = 8, 6.2, 17
"""Widths reserved for a letter of a name, a letter of a caption, and a section number."""

STYLE = """
svg { --page: #fff; --frame: #f6f8fa; --line: #afb8c1; --box: #fff; --ink: #1f2328; --soft: #59636e; --mark: #0969da; }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --frame: #151b23; --line: #656c76; --box: #0d1117; --ink: #f0f6fc; --soft: #9198a1;
    --mark: #1f6feb; }
}
text { font-family: system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; font-size: 11px;
  fill: var(--soft); }
.name { font-family: ui-monospace, SFMono-Regular, Menlo, "Liberation Mono", monospace; font-size: 12.5px;
  font-weight: 600; fill: var(--ink); }
.number { font-weight: 600; fill: #fff; text-anchor: middle; }
.page { fill: var(--page); }
.frame { fill: var(--frame); stroke: var(--line); }
.box { fill: var(--box); stroke: var(--line); }
.mark { fill: var(--mark); }
.arrow { fill: none; stroke: var(--soft); stroke-width: 1.4; marker-end: url(#head); }
.head { fill: var(--soft); }
""".strip()


class DiagramError(ValueError):
    """The source or the page can't be drawn: a text is too long for its box, or a name has no caption."""


@dataclass(frozen=True)
class Package:
    """A package's name and its columns of rooms; ``joined``: per column, whether an arrow leads to it."""

    name: str
    columns: tuple[tuple[str, ...], ...]
    joined: tuple[bool, ...]

    @classmethod
    def of(cls, name: str, text: str) -> Package:
        """Parse ``a > b | c ; d``: an arrow from the first column to the second, none to the third."""
        columns, joined = [], []
        for group in filter(None, map(str.strip, text.split(";"))):
            for place, column in enumerate(group.split(">")):
                columns.append(tuple(f"{name}.{room.strip()}" for room in column.split("|")))
                joined.append(place > 0)
        return cls(name, tuple(columns), tuple(joined))


def layers_of(source: str) -> list[list[Package]]:
    """Return the layers of the source, the highest first, each with its packages from left to right."""
    return [[Package.of(*each) for each in layer.items()] for layer in tomllib.loads(source)["layers"]]


def sections_of(page: str) -> dict[int, tuple[str, frozenset[str]]]:
    """Return number -> (title, the rooms whose files it links to) for each numbered section of the page."""
    found = {}
    for part in re.split(r"^## ", page, flags=re.MULTILINE):
        if head := re.match(r"(\d)\. (.+)\n", part):
            files = re.findall(r"\]\(\.\./([\w/]+)\.py\)", part)
            found[int(head[1])] = head[2], frozenset(".".join(file.split("/")[:2]) for file in files)
    return found


def drawing(source: str, page: str) -> str:
    """Return the SVG. Raises DiagramError for a text or a room that does not fit."""
    captions = tomllib.loads(source)["captions"]
    sections = sections_of(page)
    numbers = defaultdict(list)
    for number, (_, rooms) in sections.items():
        for room in rooms:
            numbers[room].append(number)
    parts, y = list[str](), EDGE
    above: list[float] = []
    for layer in layers_of(source):
        rows = max((len(column) for package in layer for column in package.columns), default=0)
        height = HEAD + (rows * (BOX_HEIGHT + STACKED) + INSET - STACKED if rows else 0)
        frames = list(_frames(layer))
        centres = [x + width / 2 for _, x, width in frames]
        if above:
            parts += [_arrow(x, y - ARROW, x, y) for x in max(above, centres, key=len)]
        for package, x, width in frames:
            parts += _package(package, x, y, width, height, captions, numbers)
        above, y = centres, y + height + ARROW
    for number, (title, _) in sections.items():
        x = EDGE + (number - 1) * (WIDTH - 2 * EDGE) / len(sections)
        parts += [_number(number, x + 8, y), _text(x + 22, y + 4, title)]
    height = y + EDGE + 4
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
        f'height="{height:g}" role="img" aria-labelledby="title">'
    )
    arrowhead = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0 8 4 0 8z"/></marker>'
    )
    return "\n".join(
        [
            head,
            '<title id="title">Packages and rooms; an arrow leads from code to the code that it may import</title>',
            f"<style>\n{STYLE}\n</style>",
            f"<defs>{arrowhead}</defs>",
            f'<rect class="page" width="{WIDTH}" height="{height:g}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _frames(layer: list[Package]) -> Iterator[tuple[Package, float, float]]:
    """Yield (package, left side, width) of each frame of a layer; the last one ends at the edge."""
    column = 0
    for place, package in enumerate(layer, start=1):
        x = EDGE + column * (BOX + BETWEEN)
        column += len(package.columns)
        end = WIDTH - EDGE if place == len(layer) else EDGE + column * (BOX + BETWEEN) - BETWEEN + 2 * INSET
        yield package, x, end - x


def _package(
    package: Package,
    x: float,
    y: float,
    width: float,
    height: float,
    captions: Mapping[str, str],
    numbers: Mapping[str, list[int]],
) -> Iterator[str]:
    yield f'<rect class="frame" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'
    after = x + INSET + LETTER * len(package.name) + 10
    yield _text(x + INSET, y + 20, package.name, "name")
    yield _text(after, y + 20, _fitting(captions, package.name, x + width - INSET - after))
    rows = max((len(column) for column in package.columns), default=0)
    tall = rows * (BOX_HEIGHT + STACKED) - STACKED
    for place, column in enumerate(package.columns):
        left = x + INSET + place * (BOX + BETWEEN)
        if package.joined[place]:
            middle = y + HEAD + tall / 2
            yield _arrow(left - BETWEEN + 4, middle, left - 4, middle)
        # A column with fewer rooms is centred vertically.
        top = y + HEAD + (tall - len(column) * (BOX_HEIGHT + STACKED) + STACKED) / 2
        for row, room in enumerate(column):
            yield from _room(room, left, top + row * (BOX_HEIGHT + STACKED), captions, numbers.get(room, []))


def _room(room: str, x: float, y: float, captions: Mapping[str, str], numbers: list[int]) -> Iterator[str]:
    name = room.rpartition(".")[2]
    if 16 + LETTER * len(name) + NUMBER * len(numbers) > BOX:
        raise DiagramError(f"{room} and its numbers {numbers} are wider than a box")
    yield f'<rect class="box" x="{x:g}" y="{y:g}" width="{BOX}" height="{BOX_HEIGHT}" rx="4"/>'
    yield _text(x + 8, y + 19, name, "name")
    yield _text(x + 8, y + 36, _fitting(captions, room, BOX - 16))
    for place, number in enumerate(reversed(numbers)):
        yield _number(number, x + BOX - 13 - place * NUMBER, y + 14)


def _fitting(captions: Mapping[str, str], name: str, width: float) -> str:
    if name not in captions:
        raise DiagramError(f"{name} has no caption in {SOURCE.name}")
    if SMALL_LETTER * len(captions[name]) > width:
        raise DiagramError(f"the caption of {name} has more than {int(width / SMALL_LETTER)} characters")
    return captions[name]


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    look = f' class="{kind}"' if kind else ""
    return f'<text{look} x="{x:g}" y="{y:g}">{escape(text, quote=False)}</text>'


def _number(number: int, x: float, y: float) -> str:
    return f'<circle class="mark" cx="{x:g}" cy="{y:g}" r="7.5"/>{_text(x, y + 4, str(number), "number")}'


def _arrow(x: float, y: float, x2: float, y2: float) -> str:
    return f'<path class="arrow" d="M{x:g} {y:g} {x2:g} {y2:g}"/>'


if __name__ == "__main__":
    DRAWING.write_text(drawing(SOURCE.read_text(encoding="utf-8"), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
