"""Steady-state customer base with a given monthly churn: profiles of the public file, lower churn.

26.5 % of the public file's rows left within 30 days; a carrier loses 0.8 to 2 % per month, so that most of its
customers have been with it for years. Here each customer's intensity of leaving is the file's to the power of
RISK_CONTRAST, times one factor. All joiners are new customers, with the profiles of leavers. The base starts in the
state after many years: a cohort of new customers is simulated once, and each of its months is weighted by the
probability that the customer has not left by then. See docs/decisions/0040-bounds-where-few-leave.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.raw.simulator.calibration import Calibration
from feature_repo.raw.simulator.hazard import core_log_intensity, leaving_share
from feature_repo.raw.simulator.month import VANISHING_SHARE
from feature_repo.raw.simulator.profile import TENURE_MAX_MONTHS, Profile
from feature_repo.raw.simulator.transitions import changed, new_customers

MONTHLY_CHURN_MIN: Final = 0.002
MONTHLY_CHURN_MAX: Final = 0.2
RISK_CONTRAST: Final = 0.7
"""With 1, the riskiest profiles leave so fast that no extract holds any; with 0.7 the best possible ROC-AUC is near
that of the file."""
_COHORT: Final = 1000
_MONTHS: Final = 300
"""Simulated months of the cohort; by then a customer's attributes no longer depend on those at the start."""
_SEED: Final = 20_250_131
_SHIFTS: Final = (-12.0, 2.0)
_STEPS: Final = 60


@dataclass(frozen=True)
class SteadyState:
    """Constants of the base, its possible profiles ``(n,)``, and their probabilities ``share`` ``(n,)``."""

    constants: Calibration
    profiles: Profile
    share: NDArray[np.float64]

    def customers(self, rng: np.random.Generator, count: int) -> Profile:
        """Draw ``count`` active customers."""
        return self.profiles.take(rng.choice(len(self.share), count, p=self.share))


def steady_state(constants: Calibration, monthly_churn: float) -> SteadyState:
    """Return the base in which ``monthly_churn`` of an extract's rows left in its 30 days, on average.

    Parameters
    ----------
    constants
        The public file's constants.
    monthly_churn
        Share of ``Churn = Yes`` rows, :data:`MONTHLY_CHURN_MIN` to :data:`MONTHLY_CHURN_MAX`.

    Returns
    -------
    SteadyState
        Its constants have other values of ``churn_rate``, ``log_intensity_shift`` and ``risk_contrast``, and
        ``fixed_mix`` False. The shift is found by bisection on a cohort drawn with a fixed seed: the result depends
        only on the arguments.
    """
    lives = _lives(constants)
    log_intensity = RISK_CONTRAST * core_log_intensity(lives, constants).reshape(_MONTHS, _COHORT)

    def state(shift: float) -> tuple[NDArray[np.float64], float]:
        leaves = leaving_share(log_intensity + shift)
        remains = (1 - leaves) * (1 - VANISHING_SHARE)
        here = np.cumprod(np.vstack([np.ones(_COHORT), remains[:-1]]), axis=0)
        # The last month represents all that follow.
        here[-1] /= 1 - remains[-1]
        share = np.asarray(here / here.sum(), dtype=np.float64)
        left = float((share * leaves).sum())
        return share, left / (1 + left)

    low, high = _SHIFTS
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if state(middle)[1] < monthly_churn else (low, middle)
    share, churn_rate = state(low)
    level = replace(
        constants, churn_rate=churn_rate, log_intensity_shift=low, risk_contrast=RISK_CONTRAST, fixed_mix=False
    )
    return SteadyState(level, lives, share.ravel())


def _lives(constants: Calibration) -> Profile:
    """Return the profiles of a cohort in all months, changed as :func:`~.month.simulate_month` changes them."""
    rng = np.random.default_rng(_SEED)
    now = new_customers(rng, _COHORT, constants)
    months = []
    for _ in range(_MONTHS):
        months.append(now.take(slice(None)))
        rows, after = changed(rng, now, constants)
        now.put(rows, after)
        now.tenure = np.minimum(now.tenure + 1, TENURE_MAX_MONTHS).astype(np.int16)
    return Profile.concat(months)
