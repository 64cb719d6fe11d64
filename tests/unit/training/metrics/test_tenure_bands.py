"""Bands of tenure."""

from __future__ import annotations

import pandas as pd

from training.metrics.tenure_bands import NEW_CUSTOMER_MONTHS, tenure_band


def test_every_tenure_has_its_band():
    bands = tenure_band(pd.Series([0, NEW_CUSTOMER_MONTHS, 4, 12, 13, 24, 48, 49, 72], index=range(10, 19)))
    assert bands.tolist() == [
        "00-03 months",
        "00-03 months",
        "04-12 months",
        "04-12 months",
        "13-24 months",
        "13-24 months",
        "25-48 months",
        "over 48 months",
        "over 48 months",
    ]
    assert bands.index.tolist() == list(range(10, 19))
