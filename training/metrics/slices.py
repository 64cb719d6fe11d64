"""Groups of customers by which metrics are broken down: which columns they are made of. Pure.

The only module of ``training/metrics`` that names features. See docs/decisions/0019-promotion-needs-proof.md.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

NEW_CUSTOMER_MONTHS: Final = 3
"""A customer is new up to this tenure: the first bill is barely paid, and no behaviour is known."""
REPORT_SLICES: Final = ("senior_citizen", "gender", "contract_type", "internet_service", "tenure_band")
"""Columns of :func:`report_slices`, in the order of the report."""
HELDOUT_SLICES: Final = ("contract_type", "internet_service", "tenure_band")
"""Columns of :func:`heldout_slices`."""
_EDGES: Final = (-1, NEW_CUSTOMER_MONTHS, 12, 24, 48, 10_000)
_LABELS: Final = ("00-03 months", "04-12 months", "13-24 months", "25-48 months", "over 48 months")


def tenure_band(tenure_months: pd.Series[Any]) -> pd.Series[str]:
    """Return the band of each tenure (full months, no null) as text, same index.

    Examples
    --------
    >>> import pandas as pd
    >>> from training.metrics.slices import tenure_band
    >>> tenure_band(pd.Series([0, 13])).tolist()
    ['00-03 months', '13-24 months']
    """
    return pd.cut(tenure_months, _EDGES, labels=list(_LABELS)).astype(str)


def report_slices(features: pd.DataFrame, audit: pd.DataFrame) -> pd.DataFrame:
    """Return the columns (n,) by which an evaluation's report breaks its metrics down, index of ``features``.

    Parameters
    ----------
    features
        (n, k) features of any service that a model reads.
    audit
        (n, 2) the protected features of the same customers, row by row.
    """
    protected = {name: audit[name].to_numpy() for name in ("senior_citizen", "gender")}
    return heldout_slices(features).assign(**protected)[list(REPORT_SLICES)]


def heldout_slices(features: pd.DataFrame) -> pd.DataFrame:
    """Return the columns (n,) by which the report of one training breaks its metrics down: none is protected."""
    return features[["contract_type", "internet_service"]].assign(tenure_band=tenure_band(features["tenure_months"]))


PROMOTION_SLICES_READ: Final = ("tenure_months", "contract_type")
"""Features that :func:`promotion_slices` reads, whether or not a model does."""


def promotion_slices(features: pd.DataFrame, audit: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return column -> (n,) text: the groups in which a challenger must not be worse.

    ``features`` with at least :data:`PROMOTION_SLICES_READ`, ``audit`` the protected ones, same customers row by row.
    """
    tenure = features["tenure_months"]
    columns = {
        "senior_citizen": audit["senior_citizen"].astype("string").fillna("(none)"),
        "contract_type": features["contract_type"],
        "tenure_band": tenure_band(tenure),
        "new_customer": (tenure <= NEW_CUSTOMER_MONTHS).astype("string"),
    }
    return {name: values.to_numpy(dtype=str) for name, values in columns.items()}
