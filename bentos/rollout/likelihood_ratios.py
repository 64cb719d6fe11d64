"""Sequential tests of counts against a rate by likelihood ratios, valid at every look. Pure.

Without SciPy. A ratio of likelihoods, averaged over fixed alternatives, is at most 1 on average while the hypothesis
holds, whatever was counted before. By Ville's inequality the chance that it ever reaches 1 / a is at most a (Robbins
1970, "Statistical Methods Related to the Law of the Iterated Logarithm"), so that a limit on it holds at each look and
for every number of looks.

An observation may be a share in [0, 1] instead of yes or no. A ratio is convex in it, so that its mean is at most what
yes and no of the same mean would give, and all of this holds. See docs/decisions/0032-live-rules.md.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_ODDS: Final = 2.0 ** np.arange(1, 9)
"""Alternatives to a greatest rate: its odds times these."""
_RATES: Final = np.geomspace(1e-5, 0.5, 12)
"""Alternatives to a rate in both directions."""
_GRID: Final = np.geomspace(1e-6, 1.0, 2000)
"""Candidate rates of the other side that may explain a difference."""
_LEAST: Final = 1e-12


def above(found: float, asked: int, rate: float) -> float:
    """Return the log evidence that observations in [0, 1] exceed ``rate`` on average.

    ``found`` is their sum, ``asked`` their number. Each observation may depend on those before, as long as its chance
    (its mean, of a share) given them is at most ``rate`` in (0, 1).
    """
    return float(_above(found, asked, np.array([rate]))[0])


def above_other(found: float, asked: int, other_found: float, other_asked: int, margin: float) -> float:
    """Return the log evidence that a rate exceeds another by more than ``margin``.

    Both are known by counts only. The least, over the other's possible rates q, of the evidence against "at most q +
    margin" here and "q" there. The two are multiplied: the bound on the chance is proved where, given the past, an
    observation here and one there are independent. What happens to both raises both rates, and is explained by a
    greater q.
    """
    q = _GRID[1 - margin > _GRID]
    return float((_above(found, asked, q + margin) + _unlike(other_found, other_asked, q)).min())


def _above(found: float, asked: int, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log evidence against "at most rate" for each of the rates, (k,)."""
    rate = np.clip(rates, _LEAST, 1 - _LEAST)[:, None]
    odds = rate / (1 - rate) * _ODDS
    return _log_mean(_log_ratio(found, asked, odds / (1 + odds), rate))


def _unlike(found: float, asked: int, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log evidence against each of the rates, (k,)."""
    return _log_mean(_log_ratio(found, asked, _RATES[None, :], np.clip(rates, _LEAST, 1 - _LEAST)[:, None]))


def _log_ratio(
    found: float, asked: int, instead: NDArray[np.float64], rate: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(
        found * (np.log(instead) - np.log(rate)) + (asked - found) * (np.log1p(-instead) - np.log1p(-rate))
    )


def _log_mean(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(mean(exp(logs))) along the last axis."""
    most = logs.max(axis=-1, keepdims=True)
    return np.asarray(most[:, 0] + np.log(np.exp(logs - most).mean(axis=-1)))
