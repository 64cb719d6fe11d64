"""Groups of customers: bands of tenure, and the columns of a report and of a promotion."""

from __future__ import annotations

import pandas as pd

from training.metrics.slices import NEW_CUSTOMER_MONTHS, promotion_slices, tenure_band


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


def test_customers_are_told_apart_by_contract_tenure_age_and_newness():
    rows = pd.DataFrame(
        {"tenure_months": [0, 3, 4, 60], "contract_type": ["Month-to-month", "One year", "Two year", "One year"]}
    )
    audit = pd.DataFrame({"senior_citizen": pd.array([True, False, None, False], dtype="boolean")})
    found = promotion_slices(rows, audit)
    assert {name: values.tolist() for name, values in found.items()} == {
        "senior_citizen": ["True", "False", "(none)", "False"],
        "contract_type": ["Month-to-month", "One year", "Two year", "One year"],
        "tenure_band": ["00-03 months", "00-03 months", "04-12 months", "over 48 months"],
        "new_customer": ["True", "True", "False", "False"],
    }
    assert all(values.dtype.kind == "U" for values in found.values())
