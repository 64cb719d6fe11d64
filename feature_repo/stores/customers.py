"""Queries for the customers that the offline table knows at an instant, in chunks.

Used by batch scoring, monitoring and the parity check; memory does not grow with the number of customers. See
docs/decisions/0022-whole-base-runs.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from configs.settings import Settings
from feature_repo.contract import (
    ACTIVITY_SOURCE,
    CREATED_TIMESTAMP,
    CUSTOMER,
    EVENT_TIMESTAMP,
    SOURCE,
    STORED,
    TTL_DAYS,
    features_of,
)
from feature_repo.files.duckdb_session import offline_limits, quote_text, session
from feature_repo.files.parquet_tables import table_files
from feature_repo.stores.errors import NothingToMaterializeError

if TYPE_CHECKING:
    import duckdb


def offline_files(settings: Settings) -> list[str]:
    """Return the paths of the offline table's files, sorted, at least one.

    Raises
    ------
    NothingToMaterializeError
        If the table has none.
    OSError
        If one is no file that can be read, such as a FIFO.
    """
    if not (files := table_files(settings.home, SOURCE)):
        raise NothingToMaterializeError("the offline table has no rows", "run: churn ingest, then churn build-features")
    return files


@dataclass(frozen=True)
class InactiveCounts:
    """Numbers of customers without a point-in-time result.

    Parameters
    ----------
    expired
        Customers whose newest row is older than the time to live.
    withdrawn
        Customers whose withdrawal is as old as that.
    """

    expired: int
    withdrawn: int


def active_customers(settings: Settings, now: datetime, rows: int) -> Iterator[list[str]]:
    """Yield the ids of customers with a row within the time to live, sorted.

    Only rows that were true and known at ``now`` count. The join decides whether an id is still a customer: see
    :func:`present_in`.

    Parameters
    ----------
    settings
        The home and DuckDB's limits.
    now
        The instant, tz-aware UTC.
    rows
        Most ids at a time.

    Raises
    ------
    NothingToMaterializeError
        If the offline table has no file.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from configs.settings import load_settings
    >>> from feature_repo.contract import SOURCE, STORED
    >>> from feature_repo.files.parquet_tables import append_table
    >>> from feature_repo.raw.snapshots.timing import feature_rows
    >>> from feature_repo.stores.customers import active_customers, count_inactive
    >>> settings = load_settings(home=Path(tempfile.mkdtemp()))
    >>> numbers = {"bool": False, "int64": 3, "float64": 20.0}
    >>> values = {each.name: each.categories[0] if each.categories else numbers[each.dtype] for each in STORED}
    >>> snapshot = pd.DataFrame([{"customer_id": name, **values} for name in ("C-3", "C-1", "C-2")])
    >>> at = datetime(2024, 1, 1, tzinfo=UTC)
    >>> _ = append_table(settings.home, SOURCE, "january", feature_rows(snapshot, at, at))
    >>> list(active_customers(settings, datetime(2024, 2, 1, tzinfo=UTC), rows=2))
    [['C-1', 'C-2'], ['C-3']]
    >>> count_inactive(settings, datetime(2024, 6, 1, tzinfo=UTC))
    InactiveCounts(expired=3, withdrawn=0)
    """
    with _newest(settings, now) as connection:
        # The ids alone are sorted: DuckDB spills what does not fit.
        answer = connection.execute(f"SELECT {CUSTOMER} FROM newest WHERE young ORDER BY 1")  # noqa: S608 - a name of ours
        while chunk := answer.fetchmany(rows):
            yield [row[0] for row in chunk]


def event_times(
    settings: Settings, now: datetime, rows: int, *, activity: bool
) -> Iterator[tuple[list[str], list[int], list[int | None]]]:
    """Yield the chunks of :func:`active_customers` with the event times of each customer's newest rows.

    Parameters
    ----------
    settings, now, rows
        As for :func:`active_customers`; it raises the same.
    activity
        Whether to read the table of events as well.

    Yields
    ------
    tuple
        Ids; the event time of the newest row of the snapshot table; that of the activity table, None for a customer
        without one and without ``activity``. Times are whole seconds since 1970, as the online store keeps them.
    """
    files = table_files(settings.home, ACTIVITY_SOURCE) if activity else []
    with _newest(settings, now) as connection:
        if files:
            connection.execute(
                f"""
                CREATE TEMP VIEW active AS SELECT {CUSTOMER}, max({EVENT_TIMESTAMP}) AS event
                FROM {_known(files, now)} GROUP BY {CUSTOMER}
                """  # noqa: S608 - names of the contract; values are quoted
            )
        else:
            connection.execute(f"CREATE TEMP VIEW active AS SELECT {CUSTOMER}, event FROM newest WHERE false")  # noqa: S608
        answer = connection.execute(
            f"""
            SELECT {CUSTOMER}, floor(epoch(newest.event))::BIGINT, floor(epoch(active.event))::BIGINT
            FROM newest LEFT JOIN active USING ({CUSTOMER}) WHERE young ORDER BY 1
            """  # noqa: S608 - names of the contract
        )
        while chunk := answer.fetchmany(rows):
            ids, snapshots, activities = zip(*chunk, strict=True)
            yield list(ids), list(snapshots), list(activities)


def newest_customers(settings: Settings, now: datetime, most: int) -> dict[str, datetime]:
    """Return the customers with the newest values known at an instant.

    Parameters
    ----------
    settings
        The home and DuckDB's limits.
    now
        The instant, tz-aware UTC.
    most
        How many customers at most.

    Returns
    -------
    dict
        Customer -> event timestamp (UTC, whole seconds).

    Raises
    ------
    NothingToMaterializeError
        If the offline table has no file.
    """
    with _newest(settings, now) as connection:
        rows = connection.execute(
            f"SELECT {CUSTOMER}, epoch(event)::BIGINT FROM newest WHERE young ORDER BY event DESC, 1 LIMIT {most}"  # noqa: S608 - names of ours
        ).fetchall()
    return {customer: datetime.fromtimestamp(seconds, UTC) for customer, seconds in rows}


def count_inactive(settings: Settings, now: datetime) -> InactiveCounts:
    """Count the customers that :func:`active_customers` leaves out; raises as it does."""
    with _newest(settings, now) as connection:
        expired, withdrawn = connection.execute(
            "SELECT count(*) FILTER (NOT withdrawn), count(*) FILTER (withdrawn) FROM newest WHERE NOT young"
        ).fetchall()[0]
    return InactiveCounts(expired, withdrawn)


def present_in(features: pd.DataFrame, service: str) -> NDArray[np.bool_]:
    """Return which rows of a join are customers, (n,) bool: a withdrawn one has no stored value at all."""
    stored = [feature.name for feature in features_of(service) if not feature.derived]
    return np.asarray(features[stored].notna().any(axis=1), dtype=np.bool_)


@contextmanager
def _newest(settings: Settings, now: datetime) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a session with the view ``newest``: customer, newest event, whether young, whether withdrawn."""
    files = offline_files(settings)
    # In a withdrawal every stored feature is null: a null in one that is otherwise never null shows it.
    required = next(feature.name for feature in STORED if not feature.nullable)
    oldest = quote_text((now - timedelta(days=TTL_DAYS)).isoformat())
    with session(offline_limits(settings)) as connection:
        connection.execute(
            f"""
            CREATE TEMP VIEW newest AS
            SELECT {CUSTOMER}, max({EVENT_TIMESTAMP}) AS event, event >= {oldest}::TIMESTAMPTZ AS young,
                arg_max({required} IS NULL, ({EVENT_TIMESTAMP}, {CREATED_TIMESTAMP})) AS withdrawn
            FROM {_known(files, now)} GROUP BY {CUSTOMER}
            """  # noqa: S608 - names of the contract; values are quoted
        )
        yield connection


def _known(files: Sequence[str], now: datetime) -> str:
    """Return the FROM clause of the rows of these files that were true and known at ``now``."""
    instant = quote_text(now.isoformat())
    return (
        f"read_parquet([{', '.join(map(quote_text, files))}], union_by_name = true, hive_partitioning = false) "
        f"WHERE {EVENT_TIMESTAMP} <= {instant}::TIMESTAMPTZ AND {CREATED_TIMESTAMP} <= {instant}::TIMESTAMPTZ"
    )
