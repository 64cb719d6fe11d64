"""Scale monitoring and comparison bounds to the churn rate. Pure.

Bounds in nats, in probability or in rows are set for months in which at least 10 % of the customers leave. At a rate
of 1.5 % the same bounds detect nothing: a constant score of 3 % is twice too high and still within 0.02, and a log loss
of 0.07 nats hardly rises by 0.05. Each bound is therefore reduced, or a number of rows raised, in proportion to the
quantity that it is compared with. See docs/decisions/0040-bounds-where-few-leave.md.
"""

from __future__ import annotations

import math
from typing import Final

REFERENCE_RATE: Final = 0.1
"""Churn rate at and above which the configured bounds apply unchanged."""


def probability_bound(bound: float, churn_rate: float) -> float:
    """Return a bound on a share of customers, or on profit per customer, at a churn rate (0..1).

    In proportion to the rate: the same relative error.
    """
    return bound * min(1.0, churn_rate / REFERENCE_RATE)


def log_loss_bound(bound: float, churn_rate: float) -> float:
    """Return a bound on a difference of log losses (nats per customer) at a churn rate (0..1).

    In proportion to the entropy of the rate, which is the log loss of predicting the rate itself for every customer.
    """
    return bound * min(1.0, entropy(churn_rate) / entropy(REFERENCE_RATE))


def rows_bound(rows: int, churn_rate: float) -> float:
    """Return how many rows hold as many churners as ``rows`` at the reference rate; inf at a rate of 0.

    The churn rate is in 0..1.
    """
    return rows * max(1.0, REFERENCE_RATE / churn_rate) if churn_rate > 0 else math.inf


def entropy(rate: float) -> float:
    """Return -p ln p - (1 - p) ln(1 - p) in nats, 0 at 0 and 1."""
    return -sum(p * math.log(p) for p in (rate, 1 - rate) if p > 0)
