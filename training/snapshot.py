"""When a snapshot's rows were true, when they were known, and whom they label. Pure.

The Telco CSV has no time at all. The first snapshot is a *declared bootstrap*: its features are stamped 30 days
before the extract, its ``Churn`` column is the label of those 30 days. From the second on, features are stamped
with the extract's own date, and its ``Churn`` column labels the customers observed at the snapshot before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

import pandas as pd

from feature_repo.contract import CREATED_TIMESTAMP, CUSTOMER, EVENT_TIMESTAMP, LABEL, OBSERVED_AT, STORED


@dataclass(frozen=True)
class Observation:
    """When a snapshot's values were true and when they were known (UTC), and whether that is declared or observed."""

    time: Literal["declared", "observed"]
    event_at: datetime
    created_at: datetime


def scored_at(as_of: date, delivery_lag_hours: float) -> datetime:
    """Return the instant (UTC) at which the customers of the extract of ``as_of`` could first be scored.

    That is when the extract reached us, not when it was taken: in between nobody could have known its values. A
    later correction does not move it, or a training row would hold what nobody knew when it was scored.
    """
    return datetime.combine(as_of, time(), UTC) + timedelta(hours=delivery_lag_hours)


def observation(
    as_of: date,
    ingested_at: datetime,
    *,
    first: bool,
    version: int = 1,
    label_window_days: int,
    delivery_lag_hours: float,
) -> Observation:
    """Return when the rows of the snapshot of ``as_of`` were true and known.

    Parameters
    ----------
    as_of
        The extract's date; its instant is midnight UTC.
    ingested_at
        Now, tz-aware UTC.
    first
        Whether no earlier snapshot exists: then the time is declared.
    version
        1 for the first publication of this date. A later one is known a microsecond later, so that it wins the
        tie with the one it replaces.
    label_window_days, delivery_lag_hours
        From the settings.

    Raises ValueError for an ``ingested_at`` without a time zone.
    """
    if ingested_at.tzinfo is None:
        raise ValueError(f"{ingested_at} has no time zone: instants are UTC")
    lag = timedelta(hours=delivery_lag_hours) + timedelta(microseconds=version - 1)
    midnight = datetime.combine(as_of, time(), UTC)
    if first:
        event_at = midnight - timedelta(days=label_window_days)
        return Observation("declared", event_at, event_at + lag)
    # A correction of an observed month is known when it arrives, not when the month ended: no hindsight. The
    # first version of a back-filled month is declared to have come with the usual lag.
    arrived = midnight + lag
    return Observation("observed", midnight, max(arrived, ingested_at) if version > 1 else arrived)


def feature_rows(snapshot: pd.DataFrame, event_at: datetime, created_at: datetime) -> pd.DataFrame:
    """Return the snapshot's stored features with their two timestamps, one row a customer.

    Columns: customer_id, the contract's stored features in order, event_timestamp and created_timestamp
    (datetime64[us, UTC]). The label is left out: it was not known then.
    """
    rows = snapshot[[CUSTOMER, *(feature.name for feature in STORED)]].copy()
    rows[EVENT_TIMESTAMP] = _constant(event_at, len(rows), rows.index)
    rows[CREATED_TIMESTAMP] = _constant(created_at, len(rows), rows.index)
    return rows


def label_rows(snapshot: pd.DataFrame, observed_at: datetime, earlier: pd.DataFrame | None) -> pd.DataFrame:
    """Return the labels that ``snapshot`` gives: customer_id, observed_at (datetime64[us, UTC]), churned (bool).

    Parameters
    ----------
    snapshot
        The published rows; ``churned`` as in the CSV.
    observed_at
        The observation date that is labelled: the declared one, or the date of the snapshot before.
    earlier
        The snapshot observed then; only its customers who had not left can be labelled. None for the declared
        bootstrap, which labels itself.

    A customer of ``earlier`` that is missing in ``snapshot`` gets no label: vanishing is a finding, not a churn.
    """
    labels = snapshot[[CUSTOMER, LABEL]].copy()
    if earlier is not None:
        # Who had left by then can't leave again: some extracts keep them for months.
        there = earlier.loc[~earlier[LABEL].astype(bool), CUSTOMER]
        labels = labels[labels[CUSTOMER].isin(set(there))]
    labels = labels.reset_index(drop=True)
    labels.insert(1, OBSERVED_AT, _constant(observed_at, len(labels), labels.index))
    return labels


def _constant(instant: datetime, rows: int, index: pd.Index) -> pd.Series:
    if instant.tzinfo is None:
        raise ValueError(f"{instant} has no time zone: instants are UTC")
    stamped = pd.Series([pd.Timestamp(instant).tz_convert("UTC")] * rows, index=index)
    return stamped.astype("datetime64[us, UTC]")
