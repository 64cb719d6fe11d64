"""Derived features, as a table."""

from __future__ import annotations

import math

import pytest

from feature_repo.contract import BEHAVIOR, FEATURES, OBSERVED_AT_US, PROTECTION, TILES, TTL_DAYS
from feature_repo.transforms import derive, milestones, windows


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


@pytest.mark.parametrize(
    ("contract", "tenure", "to_renewal", "since_anniversary"),
    [
        ("Month-to-month", 5, None, 5),
        ("One year", 0, 0, 0),
        ("One year", 1, 11, 1),
        ("One year", 24.0, 0, 0),
        ("Two year", 25, 23, 1),
        ("Two year", None, None, None),
        ("Two year", math.nan, None, None),
        (None, 3, None, 3),
    ],
)
def test_milestones(contract, tenure, to_renewal, since_anniversary):
    found = milestones({"contract_type": [contract], "tenure_months": [tenure]})
    assert found == {"months_to_renewal": [to_renewal], "months_since_anniversary": [since_anniversary]}


DAY_US = 86_400_000_000
TODAY = 20_000
NOW_US = TODAY * DAY_US + DAY_US // 2


def activity(**changes):
    """One customer whose activity is known as of this morning, without any event."""
    empty = {tile.name: [] if tile.dtype == "int64_list" else TODAY * DAY_US for tile in TILES}
    columns = empty | {OBSERVED_AT_US: NOW_US} | changes
    return {name: [value] for name, value in columns.items()}


def at(days_ago):
    return [TODAY - each for each in days_ago]


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        # A window of N days holds today and the N - 1 days before.
        ("usage_data_mb_7d", {"usage_on": at([7, 6, 0]), "usage_data_mb": [100, 20, 3]}, 23),
        ("usage_data_mb_30d", {"usage_on": at([30, 29, 6]), "usage_data_mb": [100, 20, 3]}, 23),
        ("usage_data_mb_90d", {"usage_on": at([90, 89, 30]), "usage_data_mb": [100, 20, 3]}, 23),
        ("usage_active_days_30d", {"usage_on": at([30, 29, 6]), "usage_data_mb": [1, 1, 1]}, 2),
        ("usage_voice_minutes_30d", {"usage_on": at([29]), "usage_voice_minutes": [5]}, 5),
        ("usage_trend", {"usage_on": at([60, 1]), "usage_data_mb": [2, 1]}, 1.0),
        ("usage_trend", {}, None),
        ("usage_trend", {"usage_on": at([1]), "usage_data_mb": [0]}, None),
        ("logins_30d", {"logins_on": at([30, 1]), "login_counts": [4, 2]}, 2),
        ("days_since_login", {"logins_on": at([40, 12]), "login_counts": [1, 1]}, 12),
        ("days_since_login", {"logins_on": at([0]), "login_counts": [1]}, 0),
        ("days_since_login", {"logins_on": at([90]), "login_counts": [1]}, None),
        ("tickets_30d", {"tickets_on": at([31, 2]), "ticket_counts": [1, 3]}, 3),
        ("tickets_90d", {"tickets_on": at([31, 2]), "ticket_counts": [1, 3]}, 4),
        ("tickets_open", {"tickets_open_since": at([91, 9, 9])}, 2),
        (
            "resolution_hours_90d",
            {"resolutions_on": at([91, 9]), "resolution_counts": [1, 2], "resolution_hours": [1, 9]},
            4.5,
        ),
        ("resolution_hours_90d", {}, None),
        ("late_payments_90d", {"payments_on": at([95, 65, 35]), "payments_late": [1, 1, 0]}, 1),
        ("payment_days_late_90d", {"payments_on": at([95, 65, 35]), "payment_days_late": [9, 8, 0]}, 8),
        ("price_change_usd_90d", {"price_changes_on": at([91, 90, 3]), "price_change_cents": [900, 400, -250]}, -2.5),
        ("price_change_usd_90d", {}, 0.0),
        ("days_since_price_change", {"price_changes_on": at([50]), "price_change_cents": [5]}, 50),
        ("days_since_price_change", {}, None),
        ("activity_known", {}, True),
    ],
)
def test_a_window(name, given, expected):
    columns = activity(**given)
    for array, on in PARALLEL.items():
        columns[array] = columns[array] if array in given else [[0] * len(columns[on][0])]
    assert windows(columns)[name] == [expected]


PARALLEL = {
    "usage_data_mb": "usage_on",
    "usage_voice_minutes": "usage_on",
    "login_counts": "logins_on",
    "ticket_counts": "tickets_on",
    "resolution_counts": "resolutions_on",
    "resolution_hours": "resolutions_on",
    "payments_late": "payments_on",
    "payment_days_late": "payments_on",
    "price_change_cents": "price_changes_on",
}


def test_windows_decay_without_events():
    given = {"usage_on": at([0]), "usage_data_mb": [7], "usage_voice_minutes": [0]}
    seen = [windows(activity(**given, observed_at_us=NOW_US + days * DAY_US)) for days in (0, 6, 7, 29, 30, 89, 90)]
    assert [each["usage_data_mb_7d"][0] for each in seen] == [7, 7, 0, 0, 0, 0, 0]
    assert [each["usage_data_mb_30d"][0] for each in seen] == [7, 7, 7, 7, 0, 0, 0]
    assert [each["usage_data_mb_90d"][0] for each in seen] == [7, 7, 7, 7, 7, 7, 0]


def test_a_window_turns_with_the_utc_day():
    given = {"usage_on": at([6]), "usage_data_mb": [7], "usage_voice_minutes": [0]}
    last_instant, midnight = TODAY * DAY_US + DAY_US - 1, (TODAY + 1) * DAY_US
    assert windows(activity(**given, observed_at_us=last_instant))["usage_data_mb_7d"] == [7]
    assert windows(activity(**given, observed_at_us=midnight))["usage_data_mb_7d"] == [0]


def test_a_view_past_its_time_to_live_counts_as_unknown():
    known_at = TODAY * DAY_US
    limit = known_at + TTL_DAYS * DAY_US
    fresh, stale = (windows(activity(observed_at_us=instant)) for instant in (limit, limit + 1))
    assert (fresh["activity_known"], fresh["tickets_30d"]) == ([True], [0])
    assert (stale["activity_known"], stale["tickets_30d"]) == ([False], [None])


@pytest.mark.parametrize("null", [None, math.nan])
def test_a_view_that_is_not_known_leaves_its_own_windows_null(null):
    found = windows(activity(usage_known_at_us=null, usage_on=None, usage_data_mb=None))
    assert (found["activity_known"], found["usage_data_mb_30d"], found["tickets_30d"]) == ([True], [None], [0])
    nothing = {tile.name: null if tile.dtype == "int64" else None for tile in TILES}
    found = windows(activity(**nothing))
    assert found.pop("activity_known") == [False]
    assert set(map(tuple, found.values())) == {(None,)}


def test_every_behavioural_feature_of_the_contract_is_computed_and_nothing_else():
    names = [feature.name for feature in FEATURES if feature.view == BEHAVIOR.name]
    assert list(windows(activity())) == names
