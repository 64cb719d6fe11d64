"""One extract without a past: customers that look like the Telco file, for whoever has no file.

A single cross-section of the population of :mod:`feature_repo.raw.simulator`, which also lives through months, behaves
and tells the truth about itself. No figure measured on simulated customers says anything about a real customer base.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from feature_repo.raw.simulator.calibration import load_calibration
from feature_repo.raw.simulator.extract import Extract, extract_table
from feature_repo.raw.simulator.hazard import core_log_intensity
from feature_repo.raw.simulator.population import newcomers
from feature_repo.raw.simulator.transitions import one_extract

_LISTED_PRICE_PERCENT: Final = 100


def simulate_snapshot(customers: int, seed: int) -> pd.DataFrame:
    """Make one snapshot in the Telco schema.

    Parameters
    ----------
    customers
        Number of rows, at least 1.
    seed
        The same seed gives the same rows, byte for byte.

    Returns
    -------
    pd.DataFrame
        ``(customers, 21)`` strings, no nulls, as :func:`feature_repo.raw.snapshots.telco_csv.read_raw` gives them:
        charges in USD, tenure in months, a blank TotalCharges at tenure 0.
    """
    rng, constants = np.random.default_rng(seed), load_calibration()
    profile = one_extract(rng, customers, constants)
    left = rng.random(customers) < 1 / (1 + np.exp(-core_log_intensity(profile, constants)))
    people = newcomers(rng, profile, np.arange(customers), _LISTED_PRICE_PERCENT, constants)
    frame: pd.DataFrame = extract_table(Extract.of(people, left), seed).to_pandas()
    return frame.astype(object)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write raw rows as the Telco file is written: UTF-8, ``,``, LF, quotes only where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
