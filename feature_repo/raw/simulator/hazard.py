"""Hazard model: the probability to leave within 30 days, from core profile and behaviour.

It depends only on what the extracts and events show.

The real file is one extract: active customers (Churn=No) and those who left in its 30 days (Churn=Yes). In a steady
base, where each leaver is replaced by a customer of the same profile, the ratio of leavers to stayers at a profile x is
the rate of leaving: 30-day intensity lambda(x) = P(Yes | x) / P(No | x), the odds of the logistic regression fitted on
the file. One customer then leaves within 30 days with probability 1 - exp(-lambda). The rest of the leavers,
lambda - (1 - exp(-lambda)), joined and left between two extracts; the extract lists them too.

Behaviours multiply lambda by exp(b). The mean of exp(b) is held at 1 in each class of customers with different
behaviours (with internet or without, automatic payment or not, new or not), so that the extract's relation of churn
with the core profile remains that of the file.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.raw.simulator.calibration import Calibration
from feature_repo.raw.simulator.population import Population
from feature_repo.raw.simulator.profile import AUTOMATIC, OFFLINE, Profile, design

USAGE_DROP: Final = 1.6
TICKET_30D: Final = 0.55
TICKET_90D: Final = 0.15
SLOW_RESOLUTION: Final = 0.7
LATE_PAYMENT: Final = 0.4
LOGIN_ABSENCE: Final = 0.9
PRICE_RISE: Final = 5.0
SLOW_HOURS: Final = 48
LOGIN_DAYS_MAX: Final = 60
_ROWS: Final = 1 << 13
_DAY_S: Final = 86_400
_NEVER: Final = -6.0
_CLASS_MONTHS: Final = 3
_NODES: Final = 7
BEHAVIOUR_SPREAD: Final = 0.7
"""Approximate standard deviation of b."""

CLASS_MEANS: Final = np.array(
    [
        [[0.79, 0.88, 1.14, 1.51], [0.79, 0.84, 1.02, 1.33]],
        [[0.79, 0.87, 1.00, 1.18], [0.79, 0.83, 0.89, 0.98]],
    ]
)
"""log mean exp(b) by (no internet, automatic payment, months here: 0 to 3 or more).

From tests/bench/behaviour_means.py.
"""


def core_log_intensity(profile: Profile, constants: Calibration) -> NDArray[np.float64]:
    """Return log lambda(x), ``(n,)``: the file's log-odds of Churn=Yes, -6 before the first bill."""
    score = np.empty(len(profile))
    for start in range(0, len(profile), _ROWS):
        part = slice(start, start + _ROWS)
        score[part] = constants.hazard @ design(profile.take(part))
    return np.where(profile.tenure == 0, _NEVER, score)


def behaviour_log_factor(customers: Population, now_s: int) -> NDArray[np.float64]:
    """Return b, ``(n,)``, before its class mean is subtracted.

    Computed from the 90 days up to ``now_s`` (seconds since 1970): traffic of the last 30 days relative to the 90 days'
    mean, tickets, their mean time to resolution, late payments, days since the last login, net rise of the charge.
    """
    quarter = customers.data_mb.sum(axis=1)
    trend = 3 * customers.data_mb[:, 0] / np.maximum(quarter, 1)
    drop = np.where(quarter > 0, -np.log(np.clip(trend, 0.2, 1.0)), 0.0)
    closed = customers.closed.sum(axis=1)
    slow = customers.hours.sum(axis=1) > SLOW_HOURS * np.maximum(closed, 1)
    away = np.where(customers.login_s > 0, (now_s - customers.login_s) / _DAY_S, LOGIN_DAYS_MAX)
    rise = np.clip(customers.price_change_cents.sum(axis=1) / customers.charge_cents, 0, 0.25)
    return np.asarray(
        USAGE_DROP * drop
        + TICKET_30D * np.minimum(customers.tickets[:, 0], 3)
        + TICKET_90D * np.minimum(customers.tickets.sum(axis=1), 5)
        + SLOW_RESOLUTION * slow
        + LATE_PAYMENT * np.minimum(customers.late.sum(axis=1), 3)
        + LOGIN_ABSENCE * np.minimum(away, LOGIN_DAYS_MAX) / LOGIN_DAYS_MAX
        + PRICE_RISE * rise,
        np.float64,
    )


def behaviour_class(customers: Population) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return each customer's index in :data:`CLASS_MEANS`, three ``(n,)`` arrays."""
    offline = (customers.profile.internet == OFFLINE).astype(np.intp)
    automatic = (customers.profile.payment >= AUTOMATIC).astype(np.intp)
    return offline, automatic, np.minimum(customers.months_here, _CLASS_MONTHS).astype(np.intp)


def leaving_probability(customers: Population, now_s: int, constants: Calibration) -> NDArray[np.float64]:
    """Return the probability to leave within 30 days of ``now_s``, ``(n,)``."""
    behaviour = behaviour_log_factor(customers, now_s) - CLASS_MEANS[behaviour_class(customers)]
    core = constants.risk_contrast * core_log_intensity(customers.profile, constants) + constants.log_intensity_shift
    return np.asarray(-np.expm1(-np.exp(core + behaviour)))


def leaving_share(log_intensity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of customers who leave within 30 days at a core intensity lambda, 0..1, same shape.

    ``log_intensity`` is log lambda. The result is E[1 - exp(-lambda e^b)] over behaviours b, by Gauss-Hermite
    quadrature.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    factors = np.exp(BEHAVIOUR_SPREAD * nodes - BEHAVIOUR_SPREAD**2 / 2)
    intensity = np.exp(log_intensity)
    leaves = sum(w * -np.expm1(-intensity * f) for f, w in zip(factors, weights / weights.sum(), strict=True))
    return np.asarray(leaves)


def between_extracts(log_intensity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of leavers who joined and left between two extracts, ``(n,)``, 0..1."""
    return np.asarray(np.clip(1 - leaving_share(log_intensity) / np.exp(log_intensity), 0, 1))


def offer_log_odds(customers: Population) -> NDArray[np.float64]:
    """Return by how much a retention offer lowers the log-odds of leaving, ``(n,)``, 0 or more.

    It is greatest for customers with a price rise and no contract, and least for those with recent support tickets.
    """
    rise = customers.price_change_cents.sum(axis=1) > 0
    effect = 0.3 + 0.3 * (customers.profile.contract == 0) + 0.5 * rise - 0.2 * (customers.tickets[:, 0] > 0)
    return np.asarray(np.maximum(effect + customers.offer_level, 0.0), np.float64)
