"""Performance of the champion on newer labels, compared with its held-out rows. Pure.

Used by the monitoring step; only labels that have matured are compared. See docs/decisions/0021-drift.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from bentos.base_rate import log_loss_bound, probability_bound
from configs.settings import MonitoringSettings
from monitoring.drift import Baseline, DriftStatus, Floats, negative_log_likelihoods


@dataclass(frozen=True)
class PerformanceCheck:
    """Metrics of the champion on the newest labels; they are None where there are no rows.

    ``rise``: log loss on the newest labels minus log loss on the held-out rows, in nats. ``gap``: share that left minus
    mean score; 0 for a calibrated model, whatever the churn rate. Each bound is the greater of the setting and the
    value that chance shows on so many rows.
    """

    status: DriftStatus
    observed_at: str | None
    rows: int
    churn_rate: float | None = None
    mean_score: float | None = None
    log_loss: float | None = None
    rise: float | None = None
    rise_bound: float | None = None
    gap: float | None = None
    gap_bound: float | None = None

    @property
    def drifted(self) -> list[str]:
        """Names of the metrics beyond their bound: "log_loss", "calibration"."""
        if self.status != "drift":
            return []
        passed = {"log_loss": (self.rise, self.rise_bound), "calibration": (abs(self.gap or 0.0), self.gap_bound)}
        return [name for name, (found, bound) in passed.items() if found is not None and found > (bound or 0.0)]


def check_performance(
    reference: Baseline,
    churned: NDArray[np.bool_],
    score: Floats,
    observed_at: str | None,
    limits: MonitoringSettings,
    *,
    judged: bool = True,
) -> PerformanceCheck:
    """Compare the newest matured labels with the held-out rows.

    Parameters
    ----------
    churned, score
        (n,) labels and the model's scores in (0, 1), all of one observation date; n may be 0.
    observed_at
        That date, ISO 8601; None where there are no labels newer than the held-out ones.
    limits
        ``log_loss_rise_max``, ``calibration_gap_max``, ``rows_min``, ``false_alarm``.
    judged
        False where the features at ``observed_at`` can't be judged, because their windows end after the newest event
        known then: the metrics are returned with the status "insufficient data".

    The two bounds shrink with the churn rate where few customers leave: see :mod:`bentos.base_rate`. The log loss of a
    perfect model also rises where more customers have a probability near 0.5; the gap does not.
    """
    rows = len(score)
    if not rows:
        return PerformanceCheck("insufficient data", observed_at, 0)
    loss = negative_log_likelihoods(churned, score)
    rise = float(loss.mean()) - reference.log_loss
    error = float(np.sqrt(reference.log_loss_spread**2 / reference.rows + loss.var() / rows))
    gap = float(churned.mean() - score.mean())
    gap_error = float(np.sqrt(np.sum(score * (1 - score)))) / rows
    # One-sided: a model that got better needs no training. The gap counts in both directions.
    rate = reference.churned / reference.rows
    rise_max, gap_max = (
        log_loss_bound(limits.log_loss_rise_max, rate),
        probability_bound(limits.calibration_gap_max, rate),
    )
    rise_bound = max(rise_max, NormalDist().inv_cdf(1 - limits.false_alarm) * error)
    gap_bound = max(gap_max, NormalDist().inv_cdf(1 - limits.false_alarm / 2) * gap_error)
    status: DriftStatus = "drift" if rise > rise_bound or abs(gap) > gap_bound else "stable"
    if not judged or min(rows, reference.rows) < limits.rows_min:
        status = "insufficient data"
    return PerformanceCheck(
        status=status,
        observed_at=observed_at,
        rows=rows,
        churn_rate=float(churned.mean()),
        mean_score=float(score.mean()),
        log_loss=float(loss.mean()),
        rise=rise,
        rise_bound=rise_bound,
        gap=gap,
        gap_bound=gap_bound,
    )
