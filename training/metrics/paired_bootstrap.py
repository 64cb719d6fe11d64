"""Paired bootstrap: significance of the difference of two models on the same rows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bentos.decisions.economics import Economics
from training.metrics.profit import FloatArray
from training.metrics.scores import BoolArray

EQUAL: Final = 1e-9
"""Nats or USD per customer; smaller differences are rounding errors."""
_DRAWN_AT_ONCE: Final = 1 << 22


@dataclass(frozen=True)
class Gain:
    """Advantage of the challenger per row.

    Parameters
    ----------
    mean
        Its mean over all rows.
    lower
        The one-sided bound of that mean.

    Examples
    --------
    >>> from training.metrics.paired_bootstrap import Gain
    >>> Gain(mean=0.01, lower=0.002).is_significant, Gain(mean=0.01, lower=-0.002).is_significant
    (True, False)
    """

    mean: float
    lower: float

    @property
    def is_significant(self) -> bool:
        """Whether the lower bound is a gain."""
        return self.lower > EQUAL


def losses(churned: BoolArray, score: FloatArray) -> FloatArray:
    """Return each row's log loss in nats, (n,); scores are clipped as in :func:`~.scores.log_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from training.metrics.paired_bootstrap import losses
    >>> losses(np.array([True, False]), np.array([0.5, 0.1])).round(3).tolist()
    [0.693, 0.105]
    """
    eps = np.finfo(np.float64).eps
    clipped = np.clip(score, eps, 1 - eps)
    return np.asarray(-np.where(churned, np.log(clipped), np.log1p(-clipped)), dtype=np.float64)


def profits(churned: BoolArray, score: FloatArray, threshold: float, economics: Economics) -> FloatArray:
    """Return the profit of each row in USD, (n,), if all at or above ``threshold`` are contacted; else 0.

    Examples
    --------
    >>> import numpy as np
    >>> from bentos.decisions.economics import Economics
    >>> from training.metrics.paired_bootstrap import profits
    >>> churned, score = np.array([True, False, False]), np.array([0.6, 0.5, 0.1])
    >>> profits(churned, score, 0.164, Economics()).tolist()
    [56.0, -11.0, 0.0]
    """
    paid = np.where(churned, economics.gain_usd, -economics.waste_usd)
    return np.where(score >= threshold, paid, 0.0)


def worst_profit(challenger: BoolArray, champion: BoolArray, economics: Economics) -> float:
    """Return the lowest profit difference that one more row of the kinds seen could add, USD, at most 0.

    ``challenger``, ``champion``: (n,) whether each contacts the row. Where they differ the outcome has two values, and
    the rarer one may not have been observed yet.
    """
    if (champion & ~challenger).any():
        return -max(economics.gain_usd, economics.waste_usd if (challenger & ~champion).any() else 0.0)
    return -economics.waste_usd if (challenger & ~champion).any() else 0.0


def bootstrap_gains(
    customers: NDArray[Any],
    differences: dict[str, FloatArray],
    worst: dict[str, float],
    *,
    share: float,
    replicates: int,
    seed: int,
) -> dict[str, Gain]:
    """Return the mean of each difference and the ``share``-quantile of its bootstrapped mean.

    Customers are resampled, not rows: the rows of one customer stay together (Davison and Hinkley 1997, "Bootstrap
    Methods and their Application", 3.8). All differences use the same resamples. The percentile bound is too optimistic
    for a difference that few rows cause, because it contains no unobserved outcome: where ``worst`` has a value, it is
    added to the rows that are drawn from. Its weight is relevant in small samples only.

    Parameters
    ----------
    customers
        (n,) customer of each row, n at least 1.
    differences
        Name -> (n,), above 0 where the challenger is better.
    worst
        Name -> an unobserved but possible difference.

    Examples
    --------
    >>> import numpy as np
    >>> from training.metrics.paired_bootstrap import bootstrap_gains
    >>> differences = {"log_loss": np.random.default_rng(0).normal(0.05, 0.1, 500)}
    >>> gains = bootstrap_gains(np.arange(500), differences, {}, share=0.025, replicates=500, seed=0)
    >>> gains["log_loss"].is_significant
    True
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
