"""Population stability index of two sets of counts. Pure.

Used by monitoring and by the live comparison of two models. See docs/decisions/0021-drift.md.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

PSEUDO_COUNT: Final = 0.5
"""Added to each bin of both sides, so that an empty bin gives a large number and not infinity."""


def psi(reference: ArrayLike, current: ArrayLike) -> float:
    """Return the sum over bins of (c - r) * ln(c / r), r and c the shares of reference and current; 0 or above.

    Siddiqi (2006), "Credit Risk Scorecards", calls up to 0.1 stable and above 0.25 a shift. With half a row added to
    each bin: the plain sum is infinite where a bin is empty on one side.

    Parameters
    ----------
    reference, current
        (b,) counts, at least 0, of the same bins.

    Raises
    ------
    ValueError
        If they are not two vectors of one length with a row on each side.

    Examples
    --------
    >>> from bentos.psi import psi
    >>> psi([50, 50], [500, 500])
    0.0
    >>> round(psi([50, 50], [20, 80]), 2)
    0.41
    """
    before, now = _counts(reference), _counts(current)
    if before.shape != now.shape or before.ndim != 1:
        raise ValueError(f"counts of shape {before.shape} and {now.shape} are not of the same bins")
    if not before.sum() > 0 or not now.sum() > 0:
        raise ValueError("a side has no rows")
    # A bin that is empty on both sides carries no information: half a row of n and half a row of m would differ.
    filled = (before + now) > 0
    r, c = (side[filled] + PSEUDO_COUNT for side in (before, now))
    r, c = r / r.sum(), c / c.sum()
    return float(np.sum((c - r) * np.log(c / r)))


def psi_by_chance(bins: int, reference_rows: int, current_rows: int, false_alarm: float) -> float:
    """Return the PSI that two samples of one population stay below with probability 1 - ``false_alarm``.

    Between equal populations PSI / (1/n + 1/m) is about chi-squared with bins - 1 degrees of freedom: Yurdakul
    (2018), "Statistical Properties of Population Stability Index", Western Michigan University. The quantile is that
    of Wilson and Hilferty (1931), within 4 % here, so that the service needs no SciPy.

    Parameters
    ----------
    bins
        Number of bins, at least 2.
    reference_rows, current_rows
        Sizes of the two samples.
    false_alarm
        Probability in (0, 1) that the PSI of equal populations exceeds the result.

    Examples
    --------
    >>> from bentos.psi import psi_by_chance
    >>> round(psi_by_chance(10, 1000, 1000, false_alarm=0.01), 3)
    0.043
    """
    from statistics import NormalDist

    freedom = max(bins - 1, 1)
    z, spread = NormalDist().inv_cdf(1 - false_alarm), 2 / (9 * freedom)
    return float(freedom * (1 - spread + z * spread**0.5) ** 3 * (1 / reference_rows + 1 / current_rows))


def _counts(values: ArrayLike) -> NDArray[np.float64]:
    counts = np.asarray(values, dtype=np.float64)
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("a count is negative or no number")
    return counts
