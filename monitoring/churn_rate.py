"""Bounds of the churn rate for the data-quality gate. Pure.

They lie around the rates of the last snapshots or, without any, are a wide prior range. A label column that is
constant, inverted or of another window shows in the churn rate. The normal rate differs: public data sets hold 15 to
30 % churners, a carrier loses 0.8 to 2 % of its customers per month. See docs/decisions/0040-bounds-where-few-leave.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, NamedTuple

from configs.settings import DataSettings

FALSE_ALARM: Final = 0.001
"""Probability that sampling noise alone carries one snapshot across a bound, on each side."""


class Labelled(NamedTuple):
    """Number of rows of a published snapshot, and its churn rate (0..1)."""

    rows: int
    churn_rate: float


def churn_rate_bounds(earlier: Sequence[Labelled], rows: int, limits: DataSettings) -> tuple[float, float]:
    """Return the least and the greatest churn rate that a file of ``rows`` rows may have, in [0, 1].

    Parameters
    ----------
    earlier
        Snapshots published before, oldest first; the newest ``limits.churn_rate_snapshots`` count. May be empty.
    rows
        Rows of the file, quarantined ones among them.
    limits
        ``churn_rate_min``, ``churn_rate_max``: the range without a history; with one, ``churn_rate_max`` still caps the
        upper bound. ``churn_rate_factor_max``: the greatest ratio to the rate of the snapshots before, up or down.

    The observed rate of few rows deviates from the true one: each bound is moved outwards by the normal approximation
    of the binomial at :data:`FALSE_ALARM`. The first snapshot must still hold at least one row of each class: a model
    can't be trained on it otherwise, and a constant column is the likelier cause.
    """
    if rows < 1:
        return 0.0, 1.0
    recent = earlier[-limits.churn_rate_snapshots :]
    low, high = limits.churn_rate_min, limits.churn_rate_max
    if recent:
        seen = sum(each.rows for each in recent)
        # One churner and one stayer more than were seen, so that a small base without churners has a rate at all.
        rate = (1 + sum(each.rows * each.churn_rate for each in recent)) / (2 + seen)
        low, high = rate / limits.churn_rate_factor_max, min(rate * limits.churn_rate_factor_max, high)
    low, high = low - _noise(low, rows), high + _noise(high, rows)
    one = 0.0 if recent else 1 / rows
    return max(low, one), min(high, 1 - one)


def _noise(rate: float, rows: int) -> float:
    return NormalDist().inv_cdf(1 - FALSE_ALARM) * math.sqrt(rate * (1 - rate) / rows)
