"""Tenure bands by which metrics are broken down. Pure."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

NEW_CUSTOMER_MONTHS: Final = 3
"""A customer is new up to this tenure: the first bill is barely paid, and no behaviour is known."""
_EDGES: Final = (-1, NEW_CUSTOMER_MONTHS, 12, 24, 48, 10_000)
_LABELS: Final = ("00-03 months", "04-12 months", "13-24 months", "25-48 months", "over 48 months")


def tenure_band(tenure_months: pd.Series[Any]) -> pd.Series[str]:
    """Return the band of each tenure (full months, no null) as text, same index.

    Examples
    --------
    >>> import pandas as pd
    >>> from training.metrics.tenure_bands import tenure_band
    >>> tenure_band(pd.Series([0, 13])).tolist()
    ['00-03 months', '13-24 months']
    """
    return pd.cut(tenure_months, _EDGES, labels=list(_LABELS)).astype(str)
