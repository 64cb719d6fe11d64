"""Derived features, as a table."""

from __future__ import annotations

import math

import pytest

from feature_repo.contract import ADD_ONS
from feature_repo.transforms import derive


def row(add_ons=("No",) * 6, payment="Mailed check"):
    return {**{name: [answer] for name, answer in zip(ADD_ONS, add_ons, strict=True)}, "payment_method": [payment]}


@pytest.mark.parametrize(
    ("add_ons", "count"),
    [
        (("No",) * 6, 0),
        (("Yes",) * 6, 6),
        (("Yes", "No", "Yes", "No", "No", "No"), 2),
        (("No internet service",) * 6, 0),
        (("Yes", None, "Yes", "No", "No", "No"), None),
        (("Yes", math.nan, "Yes", "No", "No", "No"), None),
    ],
)
def test_addon_count(add_ons, count):
    assert derive(row(add_ons))["addon_count"] == [count]


@pytest.mark.parametrize(
    ("payment", "automatic"),
    [
        ("Bank transfer (automatic)", True),
        ("Credit card (automatic)", True),
        ("Electronic check", False),
        ("Mailed check", False),
        (None, None),
        (math.nan, None),
    ],
)
def test_automatic_payment(payment, automatic):
    assert derive(row(payment=payment))["automatic_payment"] == [automatic]


def test_rows_keep_their_order_and_number():
    columns = {name: ["Yes", "No"] for name in ADD_ONS} | {"payment_method": ["Mailed check", None]}
    assert derive(columns) == {"addon_count": [6, 0], "automatic_payment": [False, None]}
