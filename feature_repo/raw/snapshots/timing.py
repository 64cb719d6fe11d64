"""Event and creation timestamps of a snapshot's rows, and the labels that it gives. Pure.

The Telco CSV has no time at all. The first snapshot is a *declared bootstrap*: its features are dated 30 days before
the extract, its ``Churn`` column is the label of those 30 days. From the second on, features are dated with the
extract's own date, and its ``Churn`` column labels the customers observed at the snapshot before.
See docs/decisions/0002-time.md and docs/decisions/0014-snapshots-over-time.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from feature_repo.contract import CREATED_TIMESTAMP, CUSTOMER, EVENT_TIMESTAMP, LABEL, OBSERVED_AT, STORED
from feature_repo.raw.snapshots.publication import SnapshotManifest

NULLABLE: Final = {"bool": "boolean", "int64": "Int64", "float64": "Float64", "string": "string"}
"""The contract's types -> pandas' types that hold a null."""


@dataclass(frozen=True)
class Observation:
    """When a snapshot's values were true and known.

    Parameters
    ----------
    time
        Whether that is *declared* or *observed*.
    event_at, created_at
        When they became true, and when they were known (UTC).
    late
        Whether a later date was published before, so that these values were not known when that date was scored.
    """

    time: Literal["declared", "observed"]
    event_at: datetime
    created_at: datetime
    late: bool = False


def midnight(as_of: date) -> datetime:
    """Return the instant (UTC) that the extract of ``as_of`` describes."""
    return datetime.combine(as_of, time(), UTC)


def scored_at(as_of: date, delivery_lag_hours: float) -> datetime:
    """Return the instant (UTC) at which the customers of the extract of ``as_of`` could first be scored.

    That is when the extract arrived, not when it was taken: in between its values were not known. A later correction
    does not move it, or a training row would hold values that were not known when it was scored.
    """
    return midnight(as_of) + timedelta(hours=delivery_lag_hours)


def snapshot_observation(
    as_of: date,
    ingested_at: datetime,
    *,
    first: bool,
    version: int = 1,
    late: bool = False,
    known_until: datetime | None = None,
    label_window_days: int,
    delivery_lag_hours: float,
) -> Observation:
    """Return when the rows of the snapshot of ``as_of`` were true and known.

    The first version of a month, back-filled or not, is declared to have arrived with the usual lag. A correction and a
    late file are known when they arrive, and after everything that was published before them: no hindsight.

    Parameters
    ----------
    as_of
        The extract's date; its instant is midnight UTC.
    ingested_at
        The current instant, tz-aware UTC.
    first
        Whether no earlier snapshot exists: then the time is declared.
    version
        1 for the first publication of this date. Each later version of the declared snapshot is known a microsecond
        later, so that it takes precedence over the one it replaces.
    late
        Whether a later date is published already.
    known_until
        The greatest ``created_at`` of all publications; None if there are none.
    label_window_days, delivery_lag_hours
        From the settings.

    Raises
    ------
    ValueError
        For an ``ingested_at`` without a time zone.

    Examples
    --------
    >>> from datetime import UTC, date, datetime
    >>> from feature_repo.raw.snapshots.timing import snapshot_observation
    >>> now = datetime(2026, 2, 3, tzinfo=UTC)
    >>> seen = snapshot_observation(date(2026, 2, 1), now, first=True, label_window_days=30, delivery_lag_hours=6)
    >>> seen.time, seen.event_at.isoformat()
    ('declared', '2026-01-02T00:00:00+00:00')
    >>> seen = snapshot_observation(date(2026, 2, 1), now, first=False, label_window_days=30, delivery_lag_hours=6)
    >>> seen.time, seen.created_at.isoformat()
    ('observed', '2026-02-01T06:00:00+00:00')
    """
    if ingested_at.tzinfo is None:
        raise ValueError(f"{ingested_at} has no time zone: instants are UTC")
    lag = timedelta(hours=delivery_lag_hours) + timedelta(microseconds=version - 1)
    event_at = midnight(as_of) - timedelta(days=label_window_days) if first else midnight(as_of)
    kind: Literal["declared", "observed"] = "declared" if first else "observed"
    # As long as nothing follows it, the declared snapshot can be declared anew: its time is an assumption anyway.
    if not late and (first or version == 1):
        return Observation(kind, event_at, event_at + lag)
    after = known_until + timedelta(microseconds=1) if known_until else ingested_at
    return Observation(kind, event_at, max(event_at + lag, ingested_at, after), late)


def arrival(
    history: Sequence[SnapshotManifest],
    as_of: date,
    ingested_at: datetime,
    *,
    label_window_days: int,
    delivery_lag_hours: float,
) -> Observation:
    """Return the :func:`snapshot_observation` of the next version of ``as_of``, after ``history`` (all versions)."""
    return snapshot_observation(
        as_of,
        ingested_at,
        first=all(manifest.snapshot_date >= as_of for manifest in history),
        version=1 + sum(manifest.snapshot_date == as_of for manifest in history),
        late=any(manifest.snapshot_date > as_of for manifest in history),
        known_until=max((manifest.created_at for manifest in history), default=None),
        label_window_days=label_window_days,
        delivery_lag_hours=delivery_lag_hours,
    )


def feature_rows(snapshot: pd.DataFrame, event_at: datetime, created_at: datetime) -> pd.DataFrame:
    """Return the snapshot's stored features with their two timestamps, one row per customer.

    The label is left out: it was not known at that time.

    Parameters
    ----------
    snapshot
        customer_id and the contract's stored features; other columns are ignored.
    event_at, created_at
        When the values became true, and when they were known (UTC).

    Returns
    -------
    pd.DataFrame
        customer_id, the contract's stored features in order, event_timestamp and created_timestamp
        (datetime64[us, UTC]).

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> import pandas as pd
    >>> from feature_repo.contract import STORED
    >>> from feature_repo.raw.snapshots.timing import feature_rows
    >>> snapshot = pd.DataFrame({"customer_id": ["7590-VHVEG"], **{each.name: [None] for each in STORED}})
    >>> rows = feature_rows(snapshot, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 6, tzinfo=UTC))
    >>> rows.columns[-2:].tolist(), str(rows["created_timestamp"].dtype)
    (['event_timestamp', 'created_timestamp'], 'datetime64[us, UTC]')
    """
    rows = snapshot[[CUSTOMER, *(feature.name for feature in STORED)]].copy()
    rows[EVENT_TIMESTAMP] = _constant(event_at, len(rows), rows.index)
    rows[CREATED_TIMESTAMP] = _constant(created_at, len(rows), rows.index)
    return rows


def withdrawal_rows(gone: Mapping[tuple[datetime, datetime], Collection[str]]) -> pd.DataFrame:
    """Return one withdrawal row per customer: every stored feature null, and the two timestamps.

    A withdrawal states that the customer has left or is no longer listed.

    ``gone``: (event timestamp, created timestamp) -> customers. Columns as :func:`feature_rows`, in pandas' nullable
    types; sorted by customer within a pair of timestamps.
    """
    rows = [(customer, *instants) for instants, customers in gone.items() for customer in sorted(customers)]
    columns: dict[str, Any] = {CUSTOMER: np.array([row[0] for row in rows], dtype=object)}
    for feature in STORED:
        columns[feature.name] = pd.Series([pd.NA] * len(rows), dtype=NULLABLE[feature.dtype])
    for place, name in ((1, EVENT_TIMESTAMP), (2, CREATED_TIMESTAMP)):
        columns[name] = pd.DatetimeIndex([row[place] for row in rows], dtype="datetime64[us, UTC]")
    return pd.DataFrame(columns)


def staying(snapshot: pd.DataFrame) -> frozenset[str]:
    """Return the customers of a snapshot who have not left."""
    return frozenset(snapshot.loc[~snapshot[LABEL].astype(bool), CUSTOMER])


def label_rows(snapshot: pd.DataFrame, observed_at: datetime, observed: Collection[str] | None = None) -> pd.DataFrame:
    """Return the labels that ``snapshot`` gives.

    A customer missing in ``snapshot`` gets no label: vanishing is a finding, not churn.

    Parameters
    ----------
    snapshot
        The published rows; ``churned`` as in the CSV.
    observed_at
        The observation date to label: the declared one, or when the snapshot before could be scored.
    observed
        Customers observed then who had not left: only they can be labelled. None: all in ``snapshot``.

    Returns
    -------
    pd.DataFrame
        customer_id, observed_at (datetime64[us, UTC]), churned (bool).

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> import pandas as pd
    >>> from feature_repo.raw.snapshots.timing import label_rows
    >>> snapshot = pd.DataFrame({"customer_id": ["A", "B", "NEW"], "churned": [True, False, False]})
    >>> labels = label_rows(snapshot, datetime(2026, 1, 1, 6, tzinfo=UTC), observed={"A", "B", "GONE"})
    >>> dict(zip(labels["customer_id"], labels["churned"]))
    {'A': True, 'B': False}
    """
    labels = snapshot[[CUSTOMER, LABEL]].copy()
    if observed is not None:
        labels = labels[labels[CUSTOMER].isin(set(observed))]
    labels = labels.reset_index(drop=True)
    labels.insert(1, OBSERVED_AT, _constant(observed_at, len(labels), labels.index))
    return labels


def _constant(instant: datetime, rows: int, index: pd.Index) -> pd.Series:
    if instant.tzinfo is None:
        raise ValueError(f"{instant} has no time zone: instants are UTC")
    stamped = pd.Series([pd.Timestamp(instant).tz_convert("UTC")] * rows, index=index)
    return stamped.astype("datetime64[us, UTC]")
