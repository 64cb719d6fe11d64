"""The geometry of the report's charts: data in, rounded SVG coordinates out; templates/charts.svg.j2 draws them.

Nothing here knows a colour: marks carry a CSS class, so that one drawing serves light and dark. Coordinates are in
units of the view box, about one CSS pixel each on a phone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bentos.economics import Economics
from training.economics import FloatArray, Targeting, best_targeting, profit_curve, rank
from training.metrics import BoolArray, CalibrationBins, calibration_bins

WIDTH: Final = 360
HEIGHT: Final = 270
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40
CURVE_POINTS_MAX: Final = 240
"""More points than this can't be told apart at this width."""
SHAP_COLUMNS: Final = 64
SHAP_WIDTH, SHAP_ROW_HEIGHT = 1000, 30
"""View box of one outline; the page stretches it to the width it has."""
SHAP_SHADES: Final = 7
SHAP_SLOPE_MIN: Final = 0.3
"""Rank correlation of value and contribution below which "higher" or "lower" would mislead more than it tells."""


@dataclass(frozen=True)
class Tick:
    """A grid line: its place along the axis and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A curve, as an SVG path, in the style of a CSS class; ``legend`` names it, or "" for a guide line."""

    style: str
    path: str
    legend: str = ""


@dataclass(frozen=True)
class Dot:
    """A point with the text a pointer shows; ``low`` and ``high`` are the ends of its interval."""

    style: str
    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Bar:
    """A rectangle with the text a pointer shows."""

    style: str
    x: float
    y: float
    width: float
    height: float
    text: str = ""


@dataclass(frozen=True)
class Note:
    """A word in the picture; ``anchor`` is SVG's start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass(frozen=True)
class Chart:
    """One drawing. ``alt`` says in words what it shows, for those who can't see it."""

    key: str
    title: str
    alt: str
    caption: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    dots: tuple[Dot, ...] = ()
    notes: tuple[Note, ...] = ()
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class Frame:
    """The plotting area: data coordinates to SVG ones."""

    x_low: float = 0.0
    x_high: float = 1.0
    y_low: float = 0.0
    y_high: float = 1.0

    def x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        span = WIDTH - LEFT - RIGHT
        return round(LEFT + (value - self.x_low) / (self.x_high - self.x_low) * span, 1)

    def y(self, value: float) -> float:
        """Return the vertical place of a value; SVG counts downwards."""
        span = HEIGHT - TOP - BOTTOM
        return round(HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * span, 1)

    def path(self, xs: FloatArray, ys: FloatArray) -> str:
        """Return an SVG path through the points."""
        points = [(self.x(x), self.y(y)) for x, y in zip(*_thinned(xs, ys), strict=True)]
        kept = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in kept)

    def x_ticks(self, values: Sequence[float], text: Callable[[float], str]) -> tuple[Tick, ...]:
        """Return vertical grid lines."""
        return tuple(Tick(self.x(value), text(value)) for value in values)

    def y_ticks(self, values: Sequence[float], text: Callable[[float], str]) -> tuple[Tick, ...]:
        """Return horizontal grid lines."""
        return tuple(Tick(self.y(value), text(value)) for value in values)


def _thinned(xs: FloatArray, ys: FloatArray) -> tuple[list[float], list[float]]:
    """Return at most about CURVE_POINTS_MAX of the points, first and last included, even along the curve."""
    if len(xs) <= CURVE_POINTS_MAX:
        return list(map(float, xs)), list(map(float, ys))
    spans = (float(np.ptp(xs)) or 1.0, float(np.ptp(ys)) or 1.0)
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(xs) / spans[0], np.diff(ys) / spans[1]))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS_MAX)))
    return [float(xs[i]) for i in kept], [float(ys[i]) for i in kept]


def percent(value: float) -> str:
    """Return a share as a whole percentage: 0.5 -> "50 %", with a space that never breaks."""
    return f"{value * 100:.0f}\N{NO-BREAK SPACE}%"


def usd(value: float) -> str:
    """Return an amount with the sign (a true minus) ahead of the currency: -2.5 -> "-$2.50"."""
    sign = "\N{MINUS SIGN}" if value < 0 and f"{-value:.2f}" != "0.00" else ""
    return f"{sign}${abs(value):,.2f}"


QUARTERS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


def roc_chart(churned: BoolArray, models: dict[str, FloatArray]) -> Chart:
    """Return the ROC curves. ``models`` maps legend -> scores, ours first."""
    frame, lines = Frame(), [Line("guide", Frame().path(np.asarray([0.0, 1.0]), np.asarray([0.0, 1.0])))]
    for style, (name, score) in zip(("baseline", "model"), reversed(models.items()), strict=False):
        found = rank(churned, score)
        caught = np.concatenate([[0], found.churners]) / found.churned
        false = np.concatenate([[0], found.contacted - found.churners]) / (found.rows - found.churned)
        lines.append(Line(style, frame.path(false, caught), name))
    return Chart(
        "roc",
        "ROC curve",
        "Share of churners caught against share of stayers contacted, for the model and the baseline.",
        "The further above the diagonal, the better the order of the customers. The diagonal is chance.",
        "stayers contacted",
        "churners caught",
        frame.x_ticks(QUARTERS, percent),
        frame.y_ticks(QUARTERS, percent),
        tuple(lines),
    )


def pr_chart(churned: BoolArray, models: dict[str, FloatArray]) -> Chart:
    """Return the precision-recall curves; the guide is the average churn rate."""
    frame, rate = Frame(), float(churned.mean())
    lines = [Line("guide", frame.path(np.asarray([0.0, 1.0]), np.full(2, rate)))]
    for style, (name, score) in zip(("baseline", "model"), reversed(models.items()), strict=False):
        found = rank(churned, score)
        precision, recall = found.churners / found.contacted, found.churners / found.churned
        # Precision over a handful of customers jumps between 0 and 1: the curve starts where 0.5 % are contacted.
        from_row = int(np.searchsorted(found.contacted, min(found.rows * 0.005, float(found.contacted[-1]))))
        lines.append(Line(style, frame.path(recall[from_row:], precision[from_row:]), name))
    return Chart(
        "pr",
        "Precision and recall",
        f"Share of contacted customers who left against share of churners caught; the average is {percent(rate)}.",
        "How many of the contacted customers really leave, as more churners are caught. The level line is the average.",
        "churners caught",
        "contacted who left",
        frame.x_ticks(QUARTERS, percent),
        frame.y_ticks(QUARTERS, percent),
        tuple(lines),
        notes=(Note(frame.x(0.01), frame.y(rate) - 5, f"average {percent(rate)}"),),
    )


def calibration_chart(churned: BoolArray, models: dict[str, FloatArray]) -> tuple[Chart, CalibrationBins]:
    """Return the reliability diagram and the model's bins.

    Dots carry 95 % intervals (Wilson 1927); the bars along the foot count customers by score.
    """
    frame = Frame()
    (name, score), *others = models.items()
    bins = calibration_bins(churned, score)
    low, high = _wilson(bins.churn_rate, bins.rows)
    lines = [Line("guide", frame.path(np.asarray([0.0, 1.0]), np.asarray([0.0, 1.0])))]
    for other, theirs in others:
        found = calibration_bins(churned, theirs)
        lines.append(Line("baseline", frame.path(found.mean_score, found.churn_rate), other))
    lines.append(Line("model", frame.path(bins.mean_score, bins.churn_rate), name))
    dots = [
        Dot("model", frame.x(m), frame.y(r), frame.y(lo), frame.y(hi), f"{n} customers: score {m:.3f}, left {r:.3f}")
        for m, r, lo, hi, n in zip(bins.mean_score, bins.churn_rate, low, high, bins.rows, strict=True)
    ]
    counts, edges = np.histogram(score, bins=25, range=(0, 1))
    chart = Chart(
        "calibration",
        "Calibration",
        "Share of customers who left against their mean score, in ten groups of equal size with 95 % intervals; "
        "bars count customers by score. The table below holds the numbers.",
        "On the diagonal a score of 30 % means that 30 % leave. Bars: how many customers have which score.",
        "score",
        "left",
        frame.x_ticks(QUARTERS, percent),
        frame.y_ticks(QUARTERS, percent),
        tuple(lines),
        bars=tuple(
            _bar(frame, "count", a, b, 0, 0.22 * n / counts.max(), f"score {a:.2f} to {b:.2f}: {n} customers")
            for a, b, n in zip(edges, edges[1:], counts, strict=False)
            if n
        ),
        dots=tuple(dots),
    )
    return chart, bins


def _wilson(rate: FloatArray, rows: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    z = 1.959964
    centre = (rate + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z * np.sqrt(rate * (1 - rate) / rows + z**2 / (4 * rows**2)) / (1 + z**2 / rows)
    return centre - half, centre + half


def _bar(frame: Frame, style: str, left: float, right: float, foot: float, top: float, text: str = "") -> Bar:
    x, y = frame.x(left), frame.y(max(foot, top))
    return Bar(style, x, y, round(frame.x(right) - x - 1, 1), round(abs(frame.y(top) - frame.y(foot)), 1), text)


def gains_chart(churned: BoolArray, models: dict[str, FloatArray], share: float) -> Chart:
    """Return the cumulative gains: churners caught against customers contacted, marked at ``share``."""
    frame, rate = Frame(), float(churned.mean())
    lines = [
        Line("guide", frame.path(np.asarray([0.0, 1.0]), np.asarray([0.0, 1.0]))),
        Line("guide", frame.path(np.asarray([0.0, rate, 1.0]), np.asarray([0.0, 1.0, 1.0]))),
    ]
    caught_at = 0.0
    for style, (name, score) in zip(("baseline", "model"), reversed(models.items()), strict=False):
        found = rank(churned, score)
        contacted = np.concatenate([[0], found.contacted]) / found.rows
        caught = np.concatenate([[0], found.churners]) / found.churned
        lines.append(Line(style, frame.path(contacted, caught), name))
        caught_at = float(np.interp(share, contacted, caught))
    x, y = frame.x(share), frame.y(caught_at)
    return Chart(
        "gains",
        "Cumulative gains",
        f"Share of churners caught against share of customers contacted; {percent(share)} contacted catch "
        f"{percent(caught_at)} of the churners.",
        "How many churners a campaign reaches. Grey: chance below, a perfect order above.",
        "customers contacted",
        "churners caught",
        frame.x_ticks(QUARTERS, percent),
        frame.y_ticks(QUARTERS, percent),
        tuple(lines),
        dots=(Dot("mark", x, y, y, y, f"{percent(share)} contacted, {percent(caught_at)} caught"),),
        notes=(Note(x + 8, y + 12, f"{percent(share)} reach {percent(caught_at)}"),),
    )


def lift_chart(churned: BoolArray, score: FloatArray) -> Chart:
    """Return the lift of each tenth of the customers, highest scores first; ties are shared out in proportion."""
    found = rank(churned, score)
    edges = np.linspace(0, 1, 11)
    at = np.interp(edges * found.rows, np.concatenate([[0], found.contacted]), np.concatenate([[0], found.churners]))
    lift = np.diff(at) / found.churned * 10
    top = max(1.5, float(np.ceil(lift.max() * 2) / 2))
    frame = Frame(y_high=top * 1.06)
    text = ", ".join(f"{value:.1f}" for value in lift)
    step = 0.5 if top <= 3 else 1.0  # noqa: PLR2004 - at most seven grid lines
    return Chart(
        "lift",
        "Lift by tenth",
        f"Churn rate over the average in each tenth of the customers, from the highest scores down: {text}.",
        "Each bar is a tenth of the customers: how many times the average churn rate it has.",
        "tenth of the customers, highest scores first",
        "times the average",
        tuple(Tick(frame.x((i + 0.5) / 10), str(i + 1)) for i in range(10)),
        frame.y_ticks(np.arange(0, top + 1e-9, step).tolist(), lambda value: f"{value:g}\N{MULTIPLICATION SIGN}"),
        (Line("guide", frame.path(np.asarray([0.0, 1.0]), np.ones(2))),),
        bars=tuple(
            _bar(frame, "model", i / 10 + 0.006, (i + 1) / 10 - 0.003, 0, value, f"tenth {i + 1}: lift {value:.2f}")
            for i, value in enumerate(lift)
        ),
        notes=tuple(
            Note(frame.x((i + 0.5) / 10), frame.y(value) - 3, f"{value:.1f}", "middle") for i, value in enumerate(lift)
        ),
    )


def profit_chart(churned: BoolArray, models: dict[str, FloatArray], economics: Economics, chosen: Targeting) -> Chart:
    """Return the expected profit against the share contacted, marked at the chosen threshold and at the best."""
    curves = {name: profit_curve(churned, score, economics) for name, score in models.items()}
    values = np.concatenate([profit for _, profit in curves.values()])
    low, high = float(min(values.min(), 0)), float(max(values.max(), 0))
    ticks = _round_ticks(low, high)
    frame = Frame(y_low=min(low, ticks[0]), y_high=max(high, ticks[-1], low + 1e-6) * 1.08)
    lines = [Line("guide", frame.path(np.asarray([0.0, 1.0]), np.zeros(2)))]
    for style, (name, (share, profit)) in zip(("baseline", "model"), reversed(curves.items()), strict=False):
        lines.append(Line(style, frame.path(share, profit), name))
    x, y = frame.x(chosen.share), frame.y(chosen.profit_usd)
    lines.append(Line("drop", f"M{x:g} {y:g}L{x:g} {frame.y(frame.y_low):g}"))
    ours = next(iter(models.values()))
    best = best_targeting(churned, ours, economics)
    text = f"score \N{GREATER-THAN OR EQUAL TO} {chosen.threshold:.3f}: {usd(chosen.profit_usd)}"
    return Chart(
        "profit",
        "Profit of a campaign",
        f"Expected profit per customer against the share contacted. At the chosen threshold {chosen.threshold:.3f}, "
        f"{percent(chosen.share)} are contacted for {usd(chosen.profit_usd)} per customer; the best cut on these rows "
        f"contacts {percent(best.share)} for {usd(best.profit_usd)}.",
        "Expected profit per customer of the base, contacted or not. The dot is the threshold in use.",
        "customers contacted",
        "USD per customer",
        frame.x_ticks(QUARTERS, percent),
        frame.y_ticks(ticks, lambda value: f"{value:g}".replace("-", "\N{MINUS SIGN}")),
        tuple(lines),
        dots=(Dot("mark", x, y, y, y, text),),
        notes=(Note(min(max(x, LEFT + 80), WIDTH - RIGHT - 80), (y + HEIGHT - BOTTOM) / 2, text, "middle"),),
    )


def _round_ticks(low: float, high: float) -> list[float]:
    """Return three to seven round numbers that cover [low, high]."""
    raw = max(high - low, 1e-6) / 5
    size = 10 ** np.floor(np.log10(raw))
    step = float(next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw))
    first, last = int(np.floor(low / step)), int(np.floor(high / step))
    return [round(i * step, 10) for i in range(first, last + 1)]


@dataclass(frozen=True)
class ShapRow:
    """One feature of the SHAP summary.

    ``importance`` is the mean absolute contribution in log-odds; ``direction`` says in words which values raise the
    score; ``bars`` is the outline of all customers along the contribution, each shaded by their mean value.
    """

    name: str
    importance: float
    direction: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class ShapChart:
    """The SHAP summary: features by importance, most important first."""

    alt: str
    rows: tuple[ShapRow, ...]
    ticks: tuple[Tick, ...]
    zero: float
    hidden: int
    """Features left out for their small importance."""
    width: int = SHAP_WIDTH
    height: int = SHAP_ROW_HEIGHT


def shap_chart(names: Sequence[str], contributions: FloatArray, values: NDArray[Any], shown: int = 12) -> ShapChart:
    """Return the SHAP summary as outlines.

    Drawing one dot a customer would take megabytes; instead customers are counted along the contribution, and each
    column of the outline is shaded by the mean rank of the feature's value in it (grey for text). All customers
    are in the picture, and none can be read off it.

    Parameters
    ----------
    names
        (k,) feature names.
    contributions
        (n, k) float64, log-odds.
    values
        (n, k) feature values: numbers, booleans or text; nulls allowed.
    shown
        How many features to draw.
    """
    importance = np.abs(contributions).mean(axis=0)
    order = np.argsort(-importance, kind="stable")[:shown]
    # A few outliers would squeeze everything else: the outermost 0.1 % of a feature share the last column.
    ends = np.quantile(contributions[:, order], [0.001, 0.999], axis=0)
    low, high = min(float(ends[0].min()), -0.01) * 1.02, max(float(ends[1].max()), 0.01) * 1.02
    column = SHAP_WIDTH / SHAP_COLUMNS

    def place(value: float) -> float:
        return round((value - low) / (high - low) * SHAP_WIDTH, 1)

    rows = []
    for feature in order:
        shade, direction = _meaning(contributions[:, feature], values[:, feature])
        outline = _outline(contributions[:, feature], shade, np.linspace(low, high, SHAP_COLUMNS + 1))
        bars = tuple(
            Bar(style, place(left), round(SHAP_ROW_HEIGHT / 2 - half, 1), round(column + 0.6, 1), round(2 * half, 1))
            for left, half, style in outline
        )
        rows.append(ShapRow(names[feature], float(importance[feature]), direction, bars))
    ticks = tuple(Tick(place(value), _signed(value)) for value in _round_ticks(low, high) if value >= low)
    listed = "; ".join(f"{row.name} {row.importance:.2f}, {row.direction}" for row in rows)
    alt = f"Features by mean absolute contribution to the log-odds of leaving: {listed}."
    return ShapChart(alt, tuple(rows), ticks, place(0.0), len(names) - len(rows))


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0"


def _outline(contribution: FloatArray, shade: FloatArray, edges: FloatArray) -> list[tuple[float, float, str]]:
    """Return (left edge, half height, CSS class) of each column that holds a customer."""
    columns = len(edges) - 1
    column = np.clip(np.searchsorted(edges, contribution, side="right") - 1, 0, columns - 1)
    counts = np.bincount(column, minlength=columns)
    # A square root: a feature that is nil for most customers would otherwise show one spike and no tail.
    half = np.sqrt(counts / counts.max()) * (SHAP_ROW_HEIGHT / 2 - 1)
    known = ~np.isnan(shade)
    sums = np.bincount(column[known], weights=shade[known], minlength=columns)
    numbers = np.bincount(column[known], minlength=columns)
    return [
        (
            float(edges[c]),
            max(float(half[c]), 0.8),
            f"v{int(min(sums[c] / numbers[c], 0.999) * SHAP_SHADES)}" if numbers[c] else "vx",
        )
        for c in np.flatnonzero(counts)
    ]


def _meaning(contribution: FloatArray, values: NDArray[Any]) -> tuple[FloatArray, str]:
    """Return each value's rank in [0, 1] (NaN for text and nulls) and in words which values raise the score."""
    import pandas as pd

    column = pd.Series(values)
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    if numbers.isna().sum() > column.isna().sum():
        means = (
            pd.Series(contribution)
            .groupby(column.astype(object).where(column.notna(), "no value").astype(str).to_numpy())
            .mean()
        )
        return np.full(len(column), np.nan), f'"{means.idxmax()}" raises it most'
    ranks = numbers.rank(method="average").to_numpy(dtype=np.float64)
    known = ~np.isnan(ranks)
    low, span = ranks[known].min(initial=np.inf), np.ptp(ranks[known]) if known.any() else 0.0
    if not span > 0:
        return np.full(len(column), np.nan), "one value only"
    shade = (ranks - low) / span
    if not np.ptp(contribution[known]) > 0:
        return shade, "no effect"
    # Spearman's correlation: the rank of the value against the rank of the contribution.
    moved = pd.Series(contribution[known]).rank().to_numpy(dtype=np.float64)
    slope = float(np.corrcoef(shade[known], moved)[0, 1])
    if abs(slope) < SHAP_SLOPE_MIN:
        return shade, "depends on the other features"
    return shade, "higher values raise it" if slope > 0 else "lower values raise it"
