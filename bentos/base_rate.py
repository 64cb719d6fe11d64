"""Bounds that fit the share of customers who leave. Pure.

Bounds in nats, in probability or in rows are set for months in which 10 % of the customers leave, or more. Where 1.5 %
leave, the same figures say nothing: a score of 3 % for everybody is twice too high and still within 0.02, and a log
loss of 0.07 nats hardly rises by 0.05. Each bound then shrinks, or a number of rows grows, in proportion to what it is
compared with.
"""

from __future__ import annotations

import math
from typing import Final

REFERENCE_RATE: Final = 0.1
"""Churn rate from which on the settings are meant as they stand."""


def probability_bound(bound: float, churn_rate: float) -> float:
    """Return a bound on a share of customers, or on what is earned a customer, at a churn rate (0..1).

    In proportion to the rate: the same relative error.
    """
    return bound * min(1.0, churn_rate / REFERENCE_RATE)


def log_loss_bound(bound: float, churn_rate: float) -> float:
    """Return a bound on a difference of log losses (nats a customer) at a churn rate (0..1).

    In proportion to the entropy of the rate, which is the log loss of the rate itself as everybody's score.
    """
    return bound * min(1.0, entropy(churn_rate) / entropy(REFERENCE_RATE))


def rows_bound(rows: int, churn_rate: float) -> float:
    """Return how many rows hold as many churners at a churn rate (0..1) as ``rows`` at the reference; inf at 0."""
    return rows * max(1.0, REFERENCE_RATE / churn_rate) if churn_rate > 0 else math.inf


def entropy(rate: float) -> float:
    """Return -p ln p - (1 - p) ln(1 - p) in nats, 0 at 0 and 1."""
    return -sum(p * math.log(p) for p in (rate, 1 - rate) if p > 0)
