"""Platt scaling on the margin, kept only where it helps out of fold. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from bentos.bundle.design_matrix import Floats
from training.metrics.scores import log_loss

IDENTITY: Final = (1.0, 0.0)
GAIN_MIN: Final = 1e-4
"""Nats of log loss that calibrating must save out of fold; below that it is noise, and no calibration is simpler."""
_HALVES: Final = 2


def platt(margin: Floats, churned: NDArray[np.bool_]) -> tuple[float, float]:
    """Return (slope, intercept) of the logistic regression of ``churned`` on ``margin`` (Platt 1999), both (n,)."""
    fitted = LogisticRegression(C=np.inf).fit(margin.reshape(-1, 1), churned)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def calibration(
    margin: Floats, churned: NDArray[np.bool_], seed: int, moments: NDArray[np.int64] | None = None
) -> tuple[float, float]:
    """Return (slope, intercept) if they lower the log loss of rows that did not fit them, else (1, 0).

    ``margin`` must be out of fold itself. Each half of the rows is scored by the calibration fitted on the other; with
    several ``moments`` ((n,), numbers in the order of time) the newer half of them by the one fitted on the older. The
    calibration returned is fitted on all rows.
    """
    if moments is not None and len(known := np.unique(moments)) > 1:
        older = moments < known[len(known) // 2]
        slope, intercept = platt(margin[older], churned[older])
        if not _gains(margin[~older], slope * margin[~older] + intercept, churned[~older]):
            return IDENTITY
        return platt(margin, churned)
    half = np.random.default_rng(seed).permutation(len(margin)) % _HALVES
    calibrated = np.empty(len(margin))
    for side in range(_HALVES):
        slope, intercept = platt(margin[half != side], churned[half != side])
        calibrated[half == side] = slope * margin[half == side] + intercept
    return platt(margin, churned) if _gains(margin, calibrated, churned) else IDENTITY


def _gains(margin: Floats, calibrated: Floats, churned: NDArray[np.bool_]) -> bool:
    return log_loss(churned, _probability(margin)) - log_loss(churned, _probability(calibrated)) >= GAIN_MIN


def _probability(margin: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-margin)), dtype=np.float64)
