"""Ages, as a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitoring.freshness import DataAge, ages

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours_ago", "age_h", "status"),
    [
        (0, 0.0, "fresh"),
        (48, 48.0, "fresh"),
        (48.1, 48.1, "stale"),
        # A clock that is ahead is no staleness.
        (-3, 0.0, "fresh"),
        # An instant of years to come says nothing.
        (-25, None, "unknown"),
        (-40_000, None, "unknown"),
    ],
)
def test_an_age(hours_ago, age_h, status):
    newest = NOW - timedelta(hours=hours_ago)
    assert ages({"snapshot": newest}, NOW, 48) == [
        DataAge("snapshot", newest.isoformat(), age_h and pytest.approx(age_h), status)
    ]


def test_what_was_never_there_has_no_age():
    assert ages({"online store": None}, NOW, 48) == [DataAge("online store", None, None, "unknown")]
    assert ages({}, NOW, 48) == []
