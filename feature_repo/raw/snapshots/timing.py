"""When a snapshot's rows were true, when they were known, and whom they label. Pure.

The Telco CSV has no time at all. The first snapshot is a *declared bootstrap*: its features are stamped 30 days
before the extract, its ``Churn`` column is the label of those 30 days. From the second on, features are stamped
with the extract's own date, and its ``Churn`` column labels the customers observed at the snapshot before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from feature_repo.contract import CREATED_TIMESTAMP, CUSTOMER, EVENT_TIMESTAMP, LABEL, OBSERVED_AT, STORED
from feature_repo.raw.snapshots.publication import Manifest

NULLABLE: Final = {"bool": "boolean", "int64": "Int64", "float64": "Float64", "string": "string"}
"""The contract's types -> pandas' types that hold a null."""


@dataclass(frozen=True)
class Observation:
    """When a snapshot's values were true and when they were known (UTC), and whether that is declared or observed.

    ``late``: a later date was published before, so that nobody can have known these values when that one was scored.
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

    That is when the extract reached us, not when it was taken: in between nobody could have known its values. A
    later correction does not move it, or a training row would hold what nobody knew when it was scored.
    """
    return midnight(as_of) + timedelta(hours=delivery_lag_hours)


def observation(
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

    Parameters
    ----------
    as_of
        The extract's date; its instant is midnight UTC.
    ingested_at
        Now, tz-aware UTC.
    first
        Whether no earlier snapshot exists: then the time is declared.
    version
        1 for the first publication of this date. A later one of the declared snapshot is known a microsecond later,
        so that it wins the tie with the one it replaces.
    late
        Whether a later date is published already.
    known_until
        The greatest ``created_at`` of what is published, if anything is.
    label_window_days, delivery_lag_hours
        From the settings.

    The first version of a month, back-filled or not, is declared to have come with the usual lag. A correction and a
    late file are known when they arrive, and after everything that was published before them: no hindsight.

    Raises ValueError for an ``ingested_at`` without a time zone.
    """
    if ingested_at.tzinfo is None:
        raise ValueError(f"{ingested_at} has no time zone: instants are UTC")
    lag = timedelta(hours=delivery_lag_hours) + timedelta(microseconds=version - 1)
    event_at = midnight(as_of) - timedelta(days=label_window_days) if first else midnight(as_of)
    kind: Literal["declared", "observed"] = "declared" if first else "observed"
    # As long as nothing follows it, the declared snapshot can be declared anew: it is an assumption as a whole.
    if not late and (first or version == 1):
        return Observation(kind, event_at, event_at + lag)
    after = known_until + timedelta(microseconds=1) if known_until else ingested_at
    return Observation(kind, event_at, max(event_at + lag, ingested_at, after), late)


def arrival(
    history: Sequence[Manifest],
    as_of: date,
    ingested_at: datetime,
    *,
    label_window_days: int,
    delivery_lag_hours: float,
) -> Observation:
    """Return the :func:`observation` of what is published next for ``as_of``, after ``history`` (every version)."""
    return observation(
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
    """Return the snapshot's stored features with their two timestamps, one row a customer.

    Columns: customer_id, the contract's stored features in order, event_timestamp and created_timestamp
    (datetime64[us, UTC]). The label is left out: it was not known then.
    """
    rows = snapshot[[CUSTOMER, *(feature.name for feature in STORED)]].copy()
    rows[EVENT_TIMESTAMP] = _constant(event_at, len(rows), rows.index)
    rows[CREATED_TIMESTAMP] = _constant(created_at, len(rows), rows.index)
    return rows


def withdrawal_rows(gone: Mapping[tuple[datetime, datetime], Collection[str]]) -> pd.DataFrame:
    """Return a row a customer that says "no customer any more": every stored feature null, and the two timestamps.

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
    """Return the labels that ``snapshot`` gives: customer_id, observed_at (datetime64[us, UTC]), churned (bool).

    Parameters
    ----------
    snapshot
        The published rows; ``churned`` as in the CSV.
    observed_at
        The observation date that is labelled: the declared one, or when the snapshot before could be scored.
    observed
        Who was observed then and had not left: only they can be labelled. None: everybody in ``snapshot``.

    Who is missing in ``snapshot`` gets no label: vanishing is a finding, not a churn.
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
