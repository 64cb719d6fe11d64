"""Constants fitted on the real file: shares, quantiles and coefficients, no rows; read once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

FILE: Final = Path(__file__).with_name("calibration.json")
"""Written by tests/bench/calibrate_world.py."""


@dataclass(frozen=True)
class Calibration:
    """Constants fitted on the real file.

    ``tenure_share``, ``active_tenure_share``: ``(73,)`` share of the customers per tenure in an extract, and of those
    still active in it; ``active_cells``: ``(CELLS,)`` share of the latter per cell of
    :func:`feature_repo.raw.simulator.profile.cell`. ``chain``: attribute -> logistic coefficients, ``(1, columns)`` for
    two values, else ``(values, columns)``, on :attr:`feature_repo.raw.simulator.profile.ProfileDesign.known` before it.
    ``hazard``: ``(DESIGN_WIDTH,)`` log-odds of Churn=Yes. ``noise_quantiles``: ``(3, levels)`` charge minus price list
    in steps of 0.05 USD, by internet. ``bill_median_gap_usd``, ``bill_deviation_usd``: ``(3,)`` |total - tenure x
    charge| per square root of tenure, its median and standard deviation, by internet. The core log intensity
    of leaving is multiplied by ``risk_contrast``, then ``log_intensity_shift`` is added; ``fixed_mix`` holds tenures
    and plans at the file's shares. :mod:`feature_repo.raw.simulator.steady_state` sets these three.
    """

    source: str
    source_sha256: str
    rows: int
    churn_rate: float
    male_share: float
    tenure_share: NDArray[np.float64]
    active_tenure_share: NDArray[np.float64]
    active_cells: NDArray[np.float64]
    chain: dict[str, NDArray[np.float32]]
    hazard: NDArray[np.float32]
    noise_quantiles: NDArray[np.float64]
    bill_median_gap_usd: NDArray[np.float64]
    bill_deviation_usd: NDArray[np.float64]
    log_intensity_shift: float = 0.0
    risk_contrast: float = 1.0
    fixed_mix: bool = True


@cache
def load_calibration() -> Calibration:
    """Return the constants of calibration.json."""
    told = json.loads(FILE.read_text(encoding="utf-8"))
    names = ("tenure_share", "active_tenure_share", "active_cells")
    shares = {name: np.array(told[name]) / sum(told[name]) for name in names}
    return Calibration(
        source=told["source"],
        source_sha256=told["source_sha256"],
        rows=told["rows"],
        churn_rate=told["churn_rate"],
        male_share=told["male_share"],
        **shares,
        chain={name: np.array(rows, np.float32) for name, rows in told["chain"].items()},
        hazard=np.array(told["hazard"], np.float32),
        noise_quantiles=np.array(told["noise_quantiles"]),
        bill_median_gap_usd=np.array([spread["median_gap"] for spread in told["bill_spread_usd"]]),
        bill_deviation_usd=np.array([spread["deviation"] for spread in told["bill_spread_usd"]]),
    )
