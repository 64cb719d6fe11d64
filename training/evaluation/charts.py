"""The charts of the evaluation report: data in, SVG and its text out; :mod:`~.chart_theme` renders.

See docs/decisions/0043-charts.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from bentos.decisions.economics import Economics
from training.evaluation.chart_theme import (
    COLOURS,
    NO_SHADE,
    SHADES,
    Chart,
    PlotArea,
    Spec,
    axis,
    chart,
    draw,
    share_axis,
)
from training.metrics.profit import FloatArray, Targeting, best_targeting, profit_curve, rank_scores, usd
from training.metrics.scores import BoolArray, CalibrationBins, calibration_bins

TIMES: Final = "datum.value + '\N{MULTIPLICATION SIGN}'"
SIGNED: Final = "datum.value == 0 ? '0' : format(datum.value, '+~g')"
DIAGONAL: Final = np.asarray([0.0, 1.0])
SHAP_COLUMNS: Final = 64
SHAP_LETTERS_MAX: Final = 42
LOG_ODDS: Final = "\N{LEFTWARDS ARROW} stays, leaves \N{RIGHTWARDS ARROW} (log-odds)"
SHAP_SLOPE_MIN: Final = 0.3
"""Minimum rank correlation of value and contribution for a stated direction ("higher", "lower")."""


def percent(value: float) -> str:
    """Return a share as a whole percentage with a no-break space: 0.5 -> "50 %"."""
    return f"{value * 100:.0f}\N{NO-BREAK SPACE}%"


def _shares(x_title: str, y_title: str) -> PlotArea:
    return PlotArea(share_axis("x", x_title), share_axis("y", y_title))


def _by_style(models: dict[str, FloatArray]) -> list[tuple[str, FloatArray]]:
    """Return (line style, scores); the model comes first in ``models`` and last here, drawn on top."""
    return list(zip(("baseline", "model"), reversed(models.values()), strict=False))[-len(models) :]


def roc_chart(churned: BoolArray, models: dict[str, FloatArray]) -> Chart:
    """Return the ROC curves. ``models`` maps legend -> scores, the model first, then the baseline."""
    plane = _shares("stayers contacted", "churners caught")
    layers = [plane.line("guide", DIAGONAL, DIAGONAL)]
    for style, score in _by_style(models):
        found = rank_scores(churned, score)
        caught = np.concatenate([[0], found.churners]) / found.churned
        false = np.concatenate([[0], found.contacted - found.churners]) / (found.rows - found.churned)
        layers.append(plane.line(style, false, caught))
    return chart(
        "roc",
        "ROC curve",
        "Share of churners caught against share of stayers contacted, for the model and the baseline.",
        "The further above the diagonal, the better the order of the customers. The diagonal is chance.",
        layers,
    )


def pr_chart(churned: BoolArray, models: dict[str, FloatArray]) -> Chart:
    """Return the precision-recall curves; the guide is the average churn rate."""
    plane, rate = _shares("churners caught", "contacted who left"), float(churned.mean())
    layers = [plane.line("guide", DIAGONAL, np.full(2, rate))]
    for style, score in _by_style(models):
        found = rank_scores(churned, score)
        precision, recall = found.churners / found.contacted, found.churners / found.churned
        # Precision over a handful of customers jumps between 0 and 1: the curve starts where 0.5 % are contacted.
        from_row = int(np.searchsorted(found.contacted, min(found.rows * 0.005, float(found.contacted[-1]))))
        layers.append(plane.line(style, recall[from_row:], precision[from_row:]))
    layers.append(plane.notes([{"x": 0.01, "y": rate, "text": f"average {percent(rate)}"}], align="left", dy=-7))
    return chart(
        "pr",
        "Precision and recall",
        f"Share of contacted customers who left against share of churners caught; the average is {percent(rate)}.",
        "How many of the contacted customers really leave, as more churners are caught. The level line is the average.",
        layers,
    )


def calibration_chart(churned: BoolArray, models: dict[str, FloatArray]) -> tuple[Chart, CalibrationBins]:
    """Return the reliability diagram and the model's bins.

    Points have 95 % intervals (Wilson 1927); the bars at the bottom count customers by score.
    """
    plane = _shares("score", "customers who left")
    ours, *others = models.values()
    bins = calibration_bins(churned, ours)
    low, high = _wilson(bins.churn_rate, bins.rows)
    counts, edges = np.histogram(ours, bins=25, range=(0, 1))
    columns = [
        {"x": a, "x2": b, "y": 0, "y2": 0.22 * n / counts.max(), "text": f"score {a:.2f} to {b:.2f}: {n} customers"}
        for a, b, n in zip(edges.tolist(), edges[1:].tolist(), counts.tolist(), strict=False)
        if n
    ]
    layers = [
        plane.bars(columns, fill=COLOURS["count"], stroke=COLOURS["card"], strokeWidth=1),
        plane.line("guide", DIAGONAL, DIAGONAL),
    ]
    for other in others:
        found = calibration_bins(churned, other)
        layers.append(plane.line("baseline", found.mean_score, found.churn_rate))
    layers.append(plane.line("model", bins.mean_score, bins.churn_rate))
    found_in = list(
        zip(*(each.tolist() for each in (bins.mean_score, bins.churn_rate, low, high, bins.rows)), strict=True)
    )
    layers.append(plane.intervals([{"x": m, "y": lo, "y2": hi} for m, _, lo, hi, _ in found_in]))
    dots = [{"x": m, "y": r, "text": f"{n} customers: score {m:.3f}, left {r:.3f}"} for m, r, _, _, n in found_in]
    layers.append(plane.dots(dots, "model", 6))
    drawn = chart(
        "calibration",
        "Calibration",
        "Share of customers who left against their mean score, in ten groups of equal size with 95 % intervals; "
        "bars count customers by score. The table below holds the numbers.",
        "On the diagonal a score of 30 % means that 30 % leave. Bars: how many customers have which score.",
        layers,
    )
    return drawn, bins


def _wilson(rate: FloatArray, rows: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    z = 1.959964
    centre = (rate + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z * np.sqrt(rate * (1 - rate) / rows + z**2 / (4 * rows**2)) / (1 + z**2 / rows)
    return centre - half, centre + half


def gains_chart(churned: BoolArray, models: dict[str, FloatArray], share: float) -> Chart:
    """Return the cumulative gains: churners caught against customers contacted, marked at ``share``."""
    plane, rate = _shares("customers contacted", "churners caught"), float(churned.mean())
    layers = [
        plane.line("guide", DIAGONAL, DIAGONAL),
        plane.line("guide", np.asarray([0.0, rate, 1.0]), np.asarray([0.0, 1.0, 1.0])),
    ]
    caught_at = 0.0
    for style, score in _by_style(models):
        found = rank_scores(churned, score)
        contacted = np.concatenate([[0], found.contacted]) / found.rows
        caught = np.concatenate([[0], found.churners]) / found.churned
        layers.append(plane.line(style, contacted, caught))
        caught_at = float(np.interp(share, contacted, caught))
    layers.append(plane.mark(share, caught_at, f"{percent(share)} contacted, {percent(caught_at)} caught"))
    reach = {"x": share, "y": caught_at, "text": f"{percent(share)} reach {percent(caught_at)}"}
    layers.append(plane.notes([reach], align="left", dx=8, dy=9))
    return chart(
        "gains",
        "Cumulative gains",
        f"Share of churners caught against share of customers contacted; {percent(share)} contacted catch "
        f"{percent(caught_at)} of the churners.",
        "How many churners a campaign reaches. Grey: chance below, a perfect order above.",
        layers,
    )


def lift_chart(churned: BoolArray, score: FloatArray) -> Chart:
    """Return the lift of each decile, highest scores first; ties are split in proportion."""
    found = rank_scores(churned, score)
    edges = np.linspace(0, 1, 11)
    at = np.interp(edges * found.rows, np.concatenate([[0], found.contacted]), np.concatenate([[0], found.churners]))
    lift = (np.diff(at) / found.churned * 10).tolist()
    text = ", ".join(f"{value:.1f}" for value in lift)
    top = max(1.5, float(np.ceil(max(lift) * 2) / 2))
    plane = PlotArea(
        axis("x", "tenth of the customers, highest scores first", (0.5, 10.5), values=list(range(1, 11)), format="d"),
        axis("y", "times the average", (0, top * 1.06), tickCount=6, labelExpr=TIMES),
    )
    bars = [
        {"x": i - 0.44, "x2": i + 0.44, "y": 0, "y2": value, "text": f"tenth {i}: lift {value:.2f}"}
        for i, value in enumerate(lift, 1)
    ]
    return chart(
        "lift",
        "Lift by tenth",
        f"Churn rate over the average in each tenth of the customers, from the highest scores down: {text}.",
        "Each bar is a tenth of the customers: how many times the average churn rate it has.",
        [
            plane.bars(bars, fill=COLOURS["model"], fillOpacity=0.85),
            plane.line("guide", np.asarray([0.5, 10.5]), np.ones(2)),
            plane.notes([{"x": i, "y": value, "text": f"{value:.1f}"} for i, value in enumerate(lift, 1)], dy=-7),
        ],
    )


def profit_chart(churned: BoolArray, models: dict[str, FloatArray], economics: Economics, chosen: Targeting) -> Chart:
    """Return the expected profit by share contacted, marked at the chosen threshold and at the best."""
    curves = [(style, *profit_curve(churned, score, economics)) for style, score in _by_style(models)]
    values = np.concatenate([profit for _, _, profit in curves])
    low, high = float(min(values.min(), 0)), float(max(values.max(), 0))
    plane = PlotArea(
        share_axis("x", "customers contacted"),
        axis("y", "USD per customer", (low, max(high, low + 1e-6) * 1.08), nice=5, tickCount=5),
    )
    best = best_targeting(churned, next(iter(models.values())), economics)
    text = f"score \N{GREATER-THAN OR EQUAL TO} {chosen.threshold:.3f}: {usd(chosen.profit_usd)}"
    x, y = chosen.share, chosen.profit_usd
    return chart(
        "profit",
        "Profit of a campaign",
        f"Expected profit per customer against the share contacted. At the chosen threshold {chosen.threshold:.3f}, "
        f"{percent(chosen.share)} are contacted for {usd(chosen.profit_usd)} per customer; the best cut on these rows "
        f"contacts {percent(best.share)} for {usd(best.profit_usd)}.",
        "Expected profit per customer of the base, contacted or not. The dot is the threshold in use.",
        [
            plane.line("guide", DIAGONAL, np.zeros(2)),
            *(plane.line(style, share, profit) for style, share, profit in curves),
            plane.line("drop", np.full(2, x), np.asarray([low, y])),
            plane.mark(x, y, text),
            plane.notes([{"x": min(max(x, 0.27), 0.73), "y": (low + y) / 2, "text": text}]),
        ],
    )


@dataclass(frozen=True)
class ShapRow:
    """One feature of the SHAP summary.

    ``importance`` is the mean absolute contribution in log-odds; ``direction`` describes which values raise the score;
    ``outline`` is (left edge, right edge, half height in (0, 1], colour) of each column that holds a customer.
    """

    name: str
    importance: float
    direction: str
    outline: tuple[tuple[float, float, float, str], ...]


@dataclass(frozen=True)
class ShapChart:
    """The SHAP summary: features by importance, most important first."""

    rows: tuple[ShapRow, ...]
    hidden: int
    """Features left out for their small importance."""
    wide: Markup
    """The chart with the names left of the outlines."""
    narrow: Markup
    """The chart for a phone, with the names above the outlines."""


def shap_chart(names: Sequence[str], contributions: FloatArray, values: NDArray[Any], shown: int = 12) -> ShapChart:
    """Return the SHAP summary as outlines.

    One point per customer would take megabytes; instead customers are counted along the contribution, and each column
    of the outline is shaded by the mean rank of the feature's value in it (grey for text). All customers are included,
    and none can be identified.

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
    # Outliers would compress the scale: the outermost 0.1 % of a feature share the last column.
    ends = np.quantile(contributions[:, order], [0.001, 0.999], axis=0)
    low, high = min(float(ends[0].min()), -0.01) * 1.02, max(float(ends[1].max()), 0.01) * 1.02
    edges, rows = np.linspace(low, high, SHAP_COLUMNS + 1), []
    for feature in order:
        shade, direction = _meaning(contributions[:, feature], values[:, feature])
        outline = _outline(contributions[:, feature], shade, edges)
        rows.append(ShapRow(names[feature], float(importance[feature]), direction, outline))
    listed = "; ".join(f"{row.name} {row.importance:.2f}, {row.direction}" for row in rows)
    words = f"Features by mean absolute contribution to the log-odds of leaving: {listed}."
    names_width = 24 + round(max(max(7.8 * len(_short(row.name)), 6.6 * len(_short(row.direction))) for row in rows))
    beside, above = (_outlines(rows, (low, high), names_above=each) for each in (False, True))
    below = {"right": 8, "top": 4, "bottom": 42}
    return ShapChart(
        tuple(rows),
        len(names) - len(rows),
        draw(
            *beside,
            words=words,
            width=names_width + 700,
            height=46 + 39 * len(rows),
            margins={"left": names_width, **below},
        ),
        draw(*above, words=words, width=350, height=46 + 70 * len(rows), margins={"left": 8, **below}),
    )


def _short(text: str) -> str:
    """Return a text shortened to one line of a phone; the table next to the chart has the full text."""
    return text if len(text) <= SHAP_LETTERS_MAX else f"{text[: SHAP_LETTERS_MAX - 1]}\N{HORIZONTAL ELLIPSIS}"


def _outlines(rows: Sequence[ShapRow], domain: tuple[float, float], *, names_above: bool) -> list[Spec]:
    """Return the layers of the SHAP summary; each feature, with its name, occupies one unit of y."""
    centre, half = (0.715, 0.235) if names_above else (0.5, 0.46)
    beside: dict[str, Any] = {"align": "left"} if names_above else {"align": "right", "dx": -16}
    plane = PlotArea(
        axis("x", LOG_ODDS, domain, grid=True, tickCount=5, labelExpr=SIGNED),
        axis("y", "", (len(rows), 0), labels=False, grid=False),
    )
    columns = [
        # Each column overlaps the next one slightly: coordinates are rounded, and no gap may appear.
        {
            "x": a,
            "x2": b + (b - a) / 16,
            "y": i + centre - half * size,
            "y2": i + centre + half * size,
            "colour": COLOURS[colour],
        }
        for i, row in enumerate(rows)
        for a, b, size, colour in row.outline
    ]
    fill = {"field": "colour", "type": "nominal", "scale": None}
    outlines = plane.layer(columns, {"type": "rect"}, x2={"field": "x2"}, y2={"field": "y2"}, fill=fill)

    def words(down: float, texts: Sequence[str], **mark: Any) -> Spec:
        return plane.notes(
            [{"x": domain[0], "y": i + down, "text": text} for i, text in enumerate(texts)], **mark | beside
        )

    return [
        plane.line("zero", np.zeros(2), np.asarray([0.0, len(rows)])),
        outlines,
        words(0.13 if names_above else 0.3, [_short(row.name) for row in rows], fontSize=13),
        words(0.33 if names_above else 0.7, [_short(row.direction) for row in rows], fill=COLOURS["soft"]),
    ]


def _outline(
    contribution: FloatArray, shade: FloatArray, edges: FloatArray
) -> tuple[tuple[float, float, float, str], ...]:
    columns = len(edges) - 1
    column = np.clip(np.searchsorted(edges, contribution, side="right") - 1, 0, columns - 1)
    counts = np.bincount(column, minlength=columns)
    # Square root: a feature that is zero for most customers would otherwise show one spike and no tail.
    half = np.maximum(np.sqrt(counts / counts.max()), 0.05)
    known = ~np.isnan(shade)
    sums = np.bincount(column[known], weights=shade[known], minlength=columns)
    numbers = np.bincount(column[known], minlength=columns)
    return tuple(
        (
            float(edges[c]),
            float(edges[c + 1]),
            float(half[c]),
            SHADES[int(min(sums[c] / numbers[c], 0.999) * len(SHADES))] if numbers[c] else NO_SHADE,
        )
        for c in np.flatnonzero(counts)
    )


def _meaning(contribution: FloatArray, values: NDArray[Any]) -> tuple[FloatArray, str]:
    """Return each value's rank in [0, 1] (NaN for text and nulls) and a text on which raise the score."""
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
