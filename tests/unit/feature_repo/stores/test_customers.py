"""Who is known at an instant, against the same told row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from configs.settings import load_settings
from feature_repo.contract import CORE_SERVICE, SOURCE, STORED, TTL_DAYS
from feature_repo.files.parquet_tables import append_table
from feature_repo.raw.snapshots.timing import NULLABLE, feature_rows, withdrawal_rows
from feature_repo.stores.customers import InactiveCounts, active_customers, count_inactive, present_in
from feature_repo.stores.errors import NothingToMaterializeError
from tests.support.small_model import features_of_snapshot, simulated

NOW = datetime(2026, 6, 1, 6, tzinfo=UTC)
DAY = timedelta(days=1)
TTL = timedelta(days=TTL_DAYS)


def says(home, number, customer, event, created):
    """One row of values; ``customer`` with a minus before it: a withdrawal."""
    if customer.startswith("-"):
        rows = withdrawal_rows({(event, created): [customer[1:]]})
    else:
        rows = feature_rows(simulated(50).head(1).assign(customer_id=customer), event, created)
    typed = rows.astype({feature.name: NULLABLE[feature.dtype] for feature in STORED})
    append_table(home, SOURCE, f"{number:03}", typed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "known", "gone"),
    [
        ([("a", -DAY, -DAY)], ["a"], InactiveCounts(0, 0)),
        # Neither true nor known yet.
        ([("a", DAY, -DAY), ("b", -DAY, DAY)], [], InactiveCounts(0, 0)),
        # Withdrawn within the time to live: the join says so.
        ([("a", -9 * DAY, -9 * DAY), ("-a", -DAY, -DAY)], ["a"], InactiveCounts(0, 0)),
        ([("a", -TTL, -TTL), ("b", -TTL - DAY, -TTL)], ["a"], InactiveCounts(1, 0)),
        ([("a", -TTL - 9 * DAY, -TTL), ("-a", -TTL - DAY, -TTL)], [], InactiveCounts(0, 1)),
        # A correction of the same event, known later, counts.
        ([("-a", -TTL - DAY, -TTL - DAY), ("a", -TTL - DAY, -TTL)], [], InactiveCounts(1, 0)),
        ([("-a", -TTL - DAY, -TTL - DAY), ("a", -DAY, -DAY)], ["a"], InactiveCounts(0, 0)),
        ([(name, -DAY, -DAY) for name in "dcbae"], ["a", "b", "c", "d", "e"], InactiveCounts(0, 0)),
    ],
)
def test_who_is_known(tmp_path, rows, known, gone):
    settings = load_settings(home=tmp_path / "home")
    for number, (customer, event, created) in enumerate(rows):
        says(settings.home, number, customer, NOW + event, NOW + created)
    chunks = list(active_customers(settings, NOW, 2))
    assert [each for chunk in chunks for each in chunk] == known
    assert [len(chunk) for chunk in chunks[:-1]] == [2] * (len(chunks) - 1)
    assert count_inactive(settings, NOW) == gone


def test_a_table_without_rows_is_told(settings):
    with pytest.raises(NothingToMaterializeError):
        list(active_customers(settings, NOW, 10))


def test_a_customer_is_present_with_any_stored_value():
    frame = features_of_snapshot(simulated(50).head(3)).astype(object)
    stored = [feature.name for feature in STORED if not feature.protected]
    frame.loc[1, stored] = None
    frame.loc[2, stored[:-1]] = None
    assert present_in(frame, CORE_SERVICE).tolist() == [True, False, True]
    assert present_in(pd.DataFrame(columns=frame.columns), CORE_SERVICE).tolist() == []
