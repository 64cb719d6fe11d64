"""Derived features, as a table."""

from __future__ import annotations

import math

import pytest

from feature_repo.contract import PROTECTION
from feature_repo.transforms import derive


def row(add_ons=("No",) * 4, payment="Mailed check"):
    return {**{name: [answer] for name, answer in zip(PROTECTION, add_ons, strict=True)}, "payment_method": [payment]}


@pytest.mark.parametrize(
    ("add_ons", "count"),
    [
        (("No",) * 4, 0),
        (("Yes",) * 4, 4),
        (("Yes", "No", "Yes", "No"), 2),
        (("No internet service",) * 4, 0),
        (("Yes", None, "Yes", "No"), None),
        (("Yes", math.nan, "Yes", "No"), None),
    ],
)
def test_protection_count(add_ons, count):
    assert derive(row(add_ons))["protection_count"] == [count]


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
    columns = {name: ["Yes", "No"] for name in PROTECTION} | {"payment_method": ["Mailed check", None]}
    assert derive(columns) == {"protection_count": [4, 0], "automatic_payment": [False, None]}
