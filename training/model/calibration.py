"""Platt scaling of the margin, used only where it improves out-of-fold log loss. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from bentos.bundle.design_matrix import Floats
from training.metrics.scores import log_loss

IDENTITY: Final = (1.0, 0.0)
GAIN_MIN: Final = 1e-4
"""Minimum reduction of the out-of-fold log loss, in nats; a smaller one is noise."""
_HALVES: Final = 2


def platt(margin: Floats, churned: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit a logistic regression of ``churned`` on ``margin`` (n,); return (slope, intercept) (Platt 1999)."""
    fitted = LogisticRegression(C=np.inf).fit(margin.reshape(-1, 1), churned)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def fit_calibration(
    margin: Floats, churned: NDArray[np.bool_], seed: int, moments: NDArray[np.int64] | None = None
) -> tuple[float, float]:
    """Return (slope, intercept) if they lower the log loss of rows not used to fit them, else (1, 0).

    ``margin`` must be out of fold. Each half of the rows is evaluated with the calibration fitted on the other half;
    with several ``moments`` ((n,), ascending in time) the newer half of them with the one fitted on the older half. The
    returned calibration is fitted on all rows.
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
