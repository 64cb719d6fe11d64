"""The comparison of both stores, as a table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from feature_repo.contract import BY_NAME
from feature_repo.stores.online_features import OnlineRow
from monitoring.parity import ParityCounts, as_served

FEATURES = tuple(BY_NAME[name] for name in ("tenure_months", "protection_count", "tickets_30d"))
AS_OF = datetime(2026, 1, 1, tzinfo=UTC)


def row(values, status="present", customer_id="a"):
    return OnlineRow(customer_id, values, status, AS_OF)


@pytest.mark.parametrize(
    ("offline", "online", "differing"),
    [
        ((3, 1, 2), row((3, 1, 2)), {}),
        ((3, 1, None), row((3, 1, None)), {}),
        ((3, 1, 2), row((3, 1, None)), {"tickets_30d": 1}),
        ((None, None, 2), row((3, 1, 2)), {"tenure_months": 1, "protection_count": 1}),
        # Expired: still there online, but for nobody to use; the windows know their own time to live.
        ((None, None, 2), row((3, 1, 2), "expired"), {}),
        ((None, None, 2), row((3, 1, 0), "expired"), {"tickets_30d": 1}),
        ((None, None, None), row((None, None, None), "unknown"), {}),
        ((3, 1, 2), row((None, None, None), "unknown"), {"tenure_months": 1, "protection_count": 1, "tickets_30d": 1}),
        ((None, None, None), row((None, None, None), "withdrawn"), {}),
    ],
)
def test_a_customer_compared(offline, online, differing):
    parity = ParityCounts()
    parity.add(FEATURES, [offline], [online])
    assert (dict(parity.differing), parity.customers, parity.cells) == (differing, 1, 3)
    assert parity.holds == (not differing)
    assert parity.statuses == {online.status: 1}
    assert parity.sample == (["a"] if differing else [])


def test_chunks_add_up_and_the_sample_stays_small():
    parity = ParityCounts()
    for _ in range(4):
        parity.add(FEATURES, [(1, 1, 1)] * 2, [row((1, 1, 0), customer_id=each) for each in "ab"])
    assert (parity.customers, parity.cells, parity.differing["tickets_30d"]) == (8, 24, 8)
    assert len(parity.sample) == 5


def test_nobody_compared_proves_nothing():
    assert not ParityCounts().holds


def test_lengths_that_differ_are_a_defect_of_the_caller():
    with pytest.raises(ValueError, match="shorter"):
        ParityCounts().add(FEATURES, [(1, 1, 1)], [])


def test_only_what_comes_from_the_snapshot_expires_by_the_status():
    assert as_served(FEATURES, row((3, 1, 2), "expired")) == (None, None, 2)
