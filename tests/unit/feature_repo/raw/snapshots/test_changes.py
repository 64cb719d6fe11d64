"""Who joined, left, vanished and returned: a table of two months, and the sum that must come out."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.contract import CUSTOMER, LABEL
from feature_repo.raw.snapshots.changes import SnapshotChanges, snapshot_changes


def base(churned):
    return pd.DataFrame({CUSTOMER: list(churned), LABEL: pd.Series(list(churned.values()), dtype=bool)})


@pytest.mark.parametrize(
    ("before", "older", "now", "joined", "returned", "left", "vanished"),
    [
        ({"ann": False}, "", {"ann": False}, 0, 0, 0, 0),
        ({"ann": False}, "", {"ann": True}, 0, 0, 1, 0),
        ({"ann": False, "bob": False}, "", {"ann": False}, 0, 0, 0, 1),
        ({"ann": False}, "", {"ann": False, "new": False}, 1, 0, 0, 0),
        # Came and left within the month.
        ({"ann": False}, "", {"ann": False, "new": True}, 1, 0, 1, 0),
        # Seen in an older month, missing in the one before.
        ({"ann": False}, "bob", {"ann": False, "bob": False}, 0, 1, 0, 0),
        ({"ann": False}, "bob", {"ann": False, "bob": True}, 0, 1, 1, 0),
        # Left by the month before, and here again.
        ({"ann": False, "bob": True}, "", {"ann": False, "bob": False}, 0, 1, 0, 0),
        # Some extracts keep who left for months; some drop them at once. Neither is a movement.
        ({"ann": False, "bob": True}, "", {"ann": False, "bob": True}, 0, 0, 0, 0),
        ({"ann": False, "bob": True}, "", {"ann": False}, 0, 0, 0, 0),
    ],
)
def test_what_changed(before, older, now, joined, returned, left, vanished):
    found = snapshot_changes(base(now), base(before), {*before, *older.split()}, named="2026-01-31.v1")
    assert (found.joined, found.returned, found.left, found.vanished) == (joined, returned, left, vanished)


bases = st.dictionaries(st.sampled_from("abcdefgh"), st.booleans(), min_size=1)


@given(bases, bases, st.sets(st.sampled_from("abcdefgh")))
def test_nobody_is_lost_in_the_sum(before, now, older):
    found = snapshot_changes(base(now), base(before), {*before, *older}, named="x")
    assert found.customers_before == sum(not left for left in before.values())
    assert found.customers == sum(not left for left in now.values())
    assert found.customers == found.customers_before + found.joined + found.returned - found.left - found.vanished


def test_the_first_snapshot_has_nothing_before_it():
    found = snapshot_changes(base({"ann": False, "bob": True}), None, (), named=None)
    assert (found.joined, found.left, found.vanished, found.returned, found.vanished_share) == (2, 1, 0, 0, 0.0)
    assert str(found) == "1 customers, the first snapshot"


def test_the_share_is_of_the_customers_before():
    found = SnapshotChanges("2026-01-31.v1", 200, 3, 1, 20, 10, 174)
    assert found.vanished_share == 0.05
    assert str(found) == "174 customers; since 2026-01-31.v1: 3 joined, 20 left, 10 vanished, 1 returned"
    assert SnapshotChanges.from_json(found.to_json()) == found
