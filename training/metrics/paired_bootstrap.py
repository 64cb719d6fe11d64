"""Whether one model is better than another on the same rows, beyond chance: the paired bootstrap. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bentos.decisions.economics import Economics
from training.metrics.profit import FloatArray
from training.metrics.scores import BoolArray

EQUAL: Final = 1e-9
"""Nats or USD a customer: what is below comes from rounding."""
_DRAWN_AT_ONCE: Final = 1 << 22


@dataclass(frozen=True)
class Gain:
    """By how much the challenger is better a row; ``lower`` is the one-sided bound of its mean."""

    mean: float
    lower: float

    @property
    def beyond_chance(self) -> bool:
        """Whether even the bound is a gain."""
        return self.lower > EQUAL


def losses(churned: BoolArray, score: FloatArray) -> FloatArray:
    """Return each row's log loss in nats, (n,); scores are clipped as :func:`training.metrics.scores.log_loss` does."""
    eps = np.finfo(np.float64).eps
    clipped = np.clip(score, eps, 1 - eps)
    return np.asarray(-np.where(churned, np.log(clipped), np.log1p(-clipped)), dtype=np.float64)


def profits(churned: BoolArray, score: FloatArray, threshold: float, economics: Economics) -> FloatArray:
    """Return what contacting everyone at or above ``threshold`` earned on each row, USD, (n,); 0 if not contacted."""
    paid = np.where(churned, economics.gain_usd, -economics.waste_usd)
    return np.where(score >= threshold, paid, 0.0)


def worst_profit(challenger: BoolArray, champion: BoolArray, economics: Economics) -> float:
    """Return the least that one more row of the kinds seen could bring, USD, at most 0.

    ``challenger``, ``champion`` (n,) say whom each contacts. Where they differ the outcome takes two values, of which
    the rarer may not have been seen yet.
    """
    if (champion & ~challenger).any():
        return -max(economics.gain_usd, economics.waste_usd if (challenger & ~champion).any() else 0.0)
    return -economics.waste_usd if (challenger & ~champion).any() else 0.0


def gains(
    customers: NDArray[Any],
    differences: dict[str, FloatArray],
    worst: dict[str, float],
    *,
    share: float,
    replicates: int,
    seed: int,
) -> dict[str, Gain]:
    """Return the mean of each difference and the ``share``-quantile of its bootstrapped mean.

    Customers are drawn, not rows: the rows of one customer go together (Davison and Hinkley 1997, "Bootstrap Methods
    and their Application", 3.8). All differences see the same draws. The percentile bound is too kind to a difference
    that few rows make, for it knows no outcome that was not seen: where ``worst`` names one, it is added to the rows
    that are drawn from. It weighs on small samples alone.

    Parameters
    ----------
    customers
        (n,) who each row is about, n at least 1.
    differences
        Name -> (n,), above 0 where the challenger is better.
    worst
        Name -> a difference that might have been.
    """
    _, cluster = np.unique(customers, return_inverse=True)
    rows = np.bincount(cluster).astype(np.float64)
    sums = {name: np.bincount(cluster, weights=each) for name, each in differences.items()}
    drawn: dict[str, list[FloatArray]] = {name: [] for name in sums}
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // len(rows))
    for start in range(0, replicates, at_once):
        count = min(at_once, replicates - start)
        chosen = rng.integers(0, len(rows), (count, len(rows)))
        extra = rng.poisson(1.0, count)
        size = rows[chosen].sum(axis=1)
        for name, each in sums.items():
            total = each[chosen].sum(axis=1)
            if name in worst:
                drawn[name].append((total + extra * worst[name]) / (size + extra))
            else:
                drawn[name].append(total / size)
    return {
        name: Gain(float(each.sum() / rows.sum()), float(np.quantile(np.concatenate(drawn[name]), share)))
        for name, each in sums.items()
    }
