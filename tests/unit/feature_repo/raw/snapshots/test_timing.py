"""When values were true, when they were known, and whom they label."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import pytest

from feature_repo.contract import CREATED_TIMESTAMP, CUSTOMER, EVENT_TIMESTAMP, LABEL, OBSERVED_AT, STORED
from feature_repo.raw.snapshots.timing import (
    NULLABLE,
    feature_rows,
    label_rows,
    scored_at,
    snapshot_observation,
    staying,
    withdrawal_rows,
)
from tests.support.small_model import simulated

D = date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
LAG, MONTH, TICK = timedelta(hours=6), timedelta(days=30), timedelta(microseconds=1)
NOON, MAY = MIDNIGHT + timedelta(hours=12), datetime(2026, 5, 1, tzinfo=UTC)


def seen(ingested_at, *, first, version=1, **more):
    more = {"label_window_days": 30, "delivery_lag_hours": 6} | more
    return snapshot_observation(D, ingested_at, first=first, version=version, **more)


@pytest.mark.parametrize(
    ("first", "version", "ingested_at", "time", "event_at", "created_at"),
    [
        # The declared bootstrap is stamped a label window before the extract, whenever it is ingested.
        (True, 1, NOON, "declared", MIDNIGHT - MONTH, MIDNIGHT - MONTH + LAG),
        (True, 1, MAY, "declared", MIDNIGHT - MONTH, MIDNIGHT - MONTH + LAG),
        (True, 3, MAY, "declared", MIDNIGHT - MONTH, MIDNIGHT - MONTH + LAG + 2 * TICK),
        # A month is known with the usual lag, back-filled ones too.
        (False, 1, NOON, "observed", MIDNIGHT, MIDNIGHT + LAG),
        (False, 1, MAY, "observed", MIDNIGHT, MIDNIGHT + LAG),
        (False, 1, MIDNIGHT, "observed", MIDNIGHT, MIDNIGHT + LAG),
        # A correction is known when it arrives: no hindsight.
        (False, 2, MAY, "observed", MIDNIGHT, MAY),
        (False, 3, MAY, "observed", MIDNIGHT, MAY),
        # One that arrives before the lag is over still comes after what it replaces.
        (False, 2, MIDNIGHT, "observed", MIDNIGHT, MIDNIGHT + LAG + TICK),
    ],
)
def test_when_a_snapshot_was_true_and_known(first, version, ingested_at, time, event_at, created_at):
    found = seen(ingested_at, first=first, version=version)
    assert (found.time, found.event_at, found.created_at) == (time, event_at, created_at)


@pytest.mark.parametrize(
    ("first", "version", "ingested_at", "known_until", "created_at"),
    [
        # A late file is known when it arrives, however often its date was published.
        (False, 1, MAY, MIDNIGHT + MONTH, MAY),
        (False, 2, MAY, MIDNIGHT + MONTH, MAY),
        (True, 2, MAY, MIDNIGHT + MONTH, MAY),
        # In any case after everything that is published, whatever the clock says.
        (False, 1, NOON, MIDNIGHT + MONTH, MIDNIGHT + MONTH + TICK),
        (True, 2, NOON, MIDNIGHT + MONTH, MIDNIGHT + MONTH + TICK),
    ],
)
def test_what_comes_late_is_known_when_it_comes(first, version, ingested_at, known_until, created_at):
    found = seen(ingested_at, first=first, version=version, late=True, known_until=known_until)
    assert (found.created_at, found.late) == (created_at, True)
    assert found.event_at == (MIDNIGHT - MONTH if first else MIDNIGHT)


def test_two_corrections_at_one_moment_are_known_one_after_the_other():
    once = seen(MAY, first=False, version=2, known_until=MIDNIGHT + LAG)
    again = seen(MAY, first=False, version=3, known_until=once.created_at)
    assert (once.created_at, again.created_at) == (MAY, MAY + TICK)
    assert not once.late


def test_a_withdrawal_is_a_row_of_nulls_of_the_stores_types():
    rows = withdrawal_rows({(MIDNIGHT, MIDNIGHT + LAG): {"cy", "ann"}, (MIDNIGHT, MAY): {"bob"}})
    values = feature_rows(simulated(1), MIDNIGHT, MIDNIGHT)
    assert rows.columns.tolist() == values.columns.tolist()
    assert rows[CUSTOMER].tolist() == ["ann", "cy", "bob"]
    assert rows[[feature.name for feature in STORED]].isna().all(axis=None)
    assert rows[EVENT_TIMESTAMP].tolist() == [pd.Timestamp(MIDNIGHT)] * 3
    assert rows[CREATED_TIMESTAMP].tolist() == [pd.Timestamp(at) for at in (MIDNIGHT + LAG, MIDNIGHT + LAG, MAY)]
    assert {str(rows[name].dtype) for name in (EVENT_TIMESTAMP, CREATED_TIMESTAMP)} == {"datetime64[us, UTC]"}
    assert [NULLABLE[feature.dtype] for feature in STORED] == [str(rows[feature.name].dtype) for feature in STORED]
    assert withdrawal_rows({}).columns.tolist() == values.columns.tolist()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_an_instant_without_a_time_zone_is_refused(first, version):
    with pytest.raises(ValueError, match="has no time zone"):
        seen(datetime(2026, 3, 2), first=first, version=version)  # noqa: DTZ001 - the fault itself


def test_scored_at_is_when_the_extract_reached_us():
    assert scored_at(D, 6) == MIDNIGHT + LAG
    assert scored_at(D, 0.5) == MIDNIGHT + timedelta(minutes=30)
    assert scored_at(D, 6) == seen(NOON, first=False).created_at


def test_feature_rows_hold_the_stored_features_and_two_instants_and_no_label():
    rows = feature_rows(simulated(5), MIDNIGHT, MIDNIGHT + LAG)
    names = [feature.name for feature in STORED]
    assert list(rows.columns) == [CUSTOMER, *names, EVENT_TIMESTAMP, CREATED_TIMESTAMP]
    assert set(rows[EVENT_TIMESTAMP]) == {pd.Timestamp(MIDNIGHT)}
    assert set(rows[CREATED_TIMESTAMP]) == {pd.Timestamp(MIDNIGHT + LAG)}
    assert {str(rows[name].dtype) for name in (EVENT_TIMESTAMP, CREATED_TIMESTAMP)} == {"datetime64[us, UTC]"}
    pd.testing.assert_frame_equal(rows[[CUSTOMER, *names]], simulated(5)[[CUSTOMER, *names]])


def test_instants_of_another_zone_are_the_same_instants():
    abroad = MIDNIGHT.astimezone(timezone(timedelta(hours=5)))
    rows = feature_rows(simulated(2), abroad, abroad)
    assert str(rows[EVENT_TIMESTAMP].dtype) == "datetime64[us, UTC]"
    assert set(rows[EVENT_TIMESTAMP]) == {pd.Timestamp(MIDNIGHT)}


def test_an_empty_snapshot_gives_no_rows_of_the_right_types():
    rows = feature_rows(simulated(2).head(0), MIDNIGHT, MIDNIGHT)
    assert rows.empty
    assert str(rows[EVENT_TIMESTAMP].dtype) == "datetime64[us, UTC]"


def test_feature_and_label_rows_without_a_time_zone_are_refused():
    naive = datetime(2026, 3, 1)  # noqa: DTZ001 - the fault itself
    with pytest.raises(ValueError, match="has no time zone"):
        feature_rows(simulated(2), naive, MIDNIGHT)
    with pytest.raises(ValueError, match="has no time zone"):
        feature_rows(simulated(2), MIDNIGHT, naive)
    with pytest.raises(ValueError, match="has no time zone"):
        label_rows(simulated(2), naive, None)


def base(**churned):
    return pd.DataFrame({CUSTOMER: list(churned), LABEL: list(churned.values())})


@pytest.mark.parametrize(
    ("snapshot", "earlier", "labels"),
    [
        # The bootstrap labels its own customers.
        (base(ann=True, bob=False), None, {"ann": True, "bob": False}),
        # Later: who was there before is labelled by what is said now.
        (base(ann=True, bob=False), base(ann=False, bob=False), {"ann": True, "bob": False}),
        # A newcomer was not observed then; who vanished is a finding, never a label.
        (base(bob=True, new=False), base(ann=False, bob=False), {"bob": True}),
        (base(new=True), base(ann=False), {}),
        # Who had left can't leave again.
        (base(ann=True, bob=False), base(ann=True, bob=False), {"bob": False}),
    ],
)
def test_whom_a_snapshot_labels(snapshot, earlier, labels):
    rows = label_rows(snapshot, MIDNIGHT, None if earlier is None else staying(earlier))
    assert list(rows.columns) == [CUSTOMER, OBSERVED_AT, LABEL]
    assert dict(zip(rows[CUSTOMER], rows[LABEL], strict=True)) == labels
    assert str(rows[OBSERVED_AT].dtype) == "datetime64[us, UTC]"
    assert (rows[OBSERVED_AT] == pd.Timestamp(MIDNIGHT)).all()
    assert list(rows.index) == list(range(len(labels)))
