"""What makes a row fit to be scored, and how good the score will be."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from feature_repo.contract import BEHAVIOR_SERVICE, CORE_SERVICE, features_of
from feature_repo.stores.freshness import RowAge, ViewState, load_freshness
from feature_repo.stores.online_read.rows import OnlineRow, RowBuilder
from feature_repo.stores.vectors import encode_features

AT = datetime(2026, 6, 1, tzinfo=UTC)
PLAIN = {"bool": True, "int64": 1, "float64": 0.5}
FRESH = RowAge((ViewState("customer_contract", AT, "fresh"),), (), AT, refused=False)


def served(service=CORE_SERVICE, age=FRESH, **changes):
    features = features_of(service)
    plain = {
        feature.name: feature.categories[0] if feature.categories else PLAIN[feature.dtype] for feature in features
    }
    serving = RowBuilder(features, load_freshness())
    columns = {name: [value] for name, value in (plain | changes).items()}
    (row,) = serving.rows(["c"], columns, [age])
    return row, serving.vectors(columns)


STORED = {feature.name: None for feature in features_of(CORE_SERVICE) if not feature.derived}


@pytest.mark.parametrize(
    ("changes", "age", "status", "missing", "quality"),
    [
        ({}, FRESH, "present", (), "full"),
        ({"total_charges_usd": None}, FRESH, "present", (), "full"),
        ({"partner": None, "tenure_months": None}, FRESH, "missing", ("partner", "tenure_months"), "partial"),
        ({"protection_count": None}, FRESH, "missing", ("protection_count",), "partial"),
        (STORED, FRESH, "withdrawn", (), "full"),
        (STORED, RowAge((), (), None, refused=False), "unknown", (), "full"),
        ({"partner": None}, FRESH._replace(refused=True), "expired", (), "full"),
        ({}, FRESH._replace(stale=("customer_contract",)), "present", (), "stale"),
        ({}, FRESH._replace(views=(ViewState("customer_usage", AT, "expired"),)), "present", (), "partial"),
        ({}, FRESH._replace(views=(ViewState("customer_usage", None, "unknown"),)), "present", (), "partial"),
    ],
)
def test_status_and_quality(changes, age, status, missing, quality):
    row, _ = served(age=age, **changes)
    assert (row.status, row.missing, row.quality, row.absent) == (status, missing, quality, ())
    assert (row.as_of, row.stale, row.views) == (age.as_of, age.stale, age.views)


def test_a_null_where_most_have_a_value_is_absent_and_an_ordinary_one_is_not():
    row, _ = served(BEHAVIOR_SERVICE, usage_trend=None, days_since_login=None, logins_30d=None, tickets_30d=None)
    assert (row.status, row.absent, row.quality) == ("present", ("logins_30d", "tickets_30d"), "partial")


def test_stale_is_said_before_partial():
    row, _ = served(BEHAVIOR_SERVICE, FRESH._replace(stale=("customer_contract",)), logins_30d=None)
    assert (row.absent, row.quality) == (("logins_30d",), "stale")


def test_numbers_are_the_one_encoding():
    changes = {
        "contract_type": "Two year",
        "internet_service": "Satellite",
        "total_charges_usd": None,
        "partner": False,
    }
    row, vectors = served(**changes)
    features = features_of(CORE_SERVICE)
    expected = encode_features(features, {f.name: [value] for f, value in zip(features, row.values, strict=True)})
    np.testing.assert_array_equal(vectors, expected)
    by_name = dict(zip((f.name for f in features), vectors[0], strict=True))
    assert (by_name["contract_type"], by_name["internet_service"], by_name["partner"]) == (2.0, -1.0, 0.0)
    assert math.isnan(by_name["total_charges_usd"])


def test_a_row_of_before_the_policy_is_full():
    assert OnlineRow("c", (), "present", AT).quality == "full"
