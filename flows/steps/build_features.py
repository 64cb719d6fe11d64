"""Feature building: published snapshots and event deliveries become parts of Feast's offline tables.

See docs/decisions/0014-snapshots-over-time.md and docs/decisions/0016-event-deliveries.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

import pyarrow as pa

from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import (
    ACTIVITY_SOURCE,
    CREATED_TIMESTAMP,
    CUSTOMER,
    EVENT_TIMESTAMP,
    SOURCE,
    TILES,
    WINDOW_DAYS,
)
from feature_repo.events import EVENT_SCHEMA
from feature_repo.files.duckdb_session import offline_limits, session
from feature_repo.files.parquet_tables import append_table, append_tables, has_part
from feature_repo.files.table_paths import table_pattern
from feature_repo.instants import INSTANT
from feature_repo.raw.events.deliveries import Delivery, check_delivery, deliveries
from feature_repo.raw.snapshots.offline_rows import offline_rows
from feature_repo.raw.snapshots.publication import read_snapshot, snapshot_history
from feature_repo.transforms import tiles

KEPT: Final = 4
"""Maximum number of snapshots in memory: a version, its neighbours, and the one it replaces."""

ROWS: Final = pa.schema(
    [
        (CUSTOMER, pa.string()),
        *((tile.name, pa.list_(pa.int64()) if tile.dtype == "int64_list" else pa.int64()) for tile in TILES),
        (EVENT_TIMESTAMP, INSTANT),
        (CREATED_TIMESTAMP, INSTANT),
    ]
)
"""The columns of a part."""
CUSTOMERS_AT_ONCE: Final = 20_000
"""Customers per piece: their events of three months, some millions, are in memory at once."""


class NothingPublishedError(ChurnError):
    """There is no snapshot to build features from."""

    error = "nothing_published"


def build_features(settings: Settings) -> list[str]:
    """Append every published version missing in Feast's source.

    A replaced version stays, so that point-in-time queries return the values known at their instant. Parts are
    immutable and named after date and version, and contain nothing published after them, so that the next run completes
    a killed one.

    Returns
    -------
    list of str
        All parts, oldest date first.

    Raises
    ------
    NothingPublishedError
        If there is no snapshot.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from flows.steps.build_features import build_features
    >>> build_features(load_settings(home=Path(tempfile.mkdtemp())))
    Traceback (most recent call last):
        ...
    flows.steps.build_features.NothingPublishedError: ...
    """
    every = snapshot_history(settings.home)
    if not every:
        raise NothingPublishedError(
            f"no snapshot is published in {settings.home}", "run: churn ingest --csv PATH --as-of DATE"
        )
    read = lru_cache(KEPT)(lambda manifest: read_snapshot(settings.home, manifest))
    there = {path.stem for path in settings.home.glob(table_pattern(SOURCE))}
    parts = []
    for manifest in sorted(every, key=lambda each: (each.snapshot_date, each.version)):
        part = f"{manifest.snapshot_date.isoformat()}.v{manifest.version}"
        if part not in there:
            append_table(settings.home, SOURCE, part, offline_rows(manifest, every, read))
        parts.append(part)
    return parts


def build_activity(settings: Settings, customers_at_once: int = CUSTOMERS_AT_ONCE) -> list[str]:
    """Append one part per delivery missing in Feast's table.

    A part holds the customers of whom the delivery admitted an event, with their tiles as of all deliveries up to it.
    It is written atomically and never changes, so that the next run completes a killed one. A delivery without admitted
    events has no part.

    Parameters
    ----------
    settings
        The home and DuckDB's limits.
    customers_at_once
        How many customers are summed at once; memory grows with it.

    Returns
    -------
    list of str
        All parts, oldest first.

    Raises
    ------
    DeliveryDamagedError
        If a delivery was changed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from flows.steps.build_features import build_activity
    >>> build_activity(load_settings(home=Path(tempfile.mkdtemp())))
    []
    """
    every = deliveries(settings.home)
    parts, whole = [], dict[int, Path]()
    for place, delivery in enumerate(every):
        if delivery.known_at is None:
            continue
        parts.append(delivery.name)
        if has_part(settings.home, ACTIVITY_SOURCE, delivery.name):
            continue
        needed = [delivery, *(each for each in every[:place] if _matters(each, delivery.known_at))]
        for each in needed:
            if each.number not in whole:
                whole[each.number] = check_delivery(settings.home, each)
        pieces = _pieces(settings, delivery.known_at, [whole[each.number] for each in needed], customers_at_once)
        append_tables(settings.home, ACTIVITY_SOURCE, delivery.name, ROWS, pieces)
    return parts


def _pieces(
    settings: Settings, known_at: datetime, files: Sequence[Path], customers_at_once: int
) -> Iterator[pa.Table]:
    """Yield the rows of a delivery, the first of ``files``, in pieces of customers, ascending."""
    columns = ", ".join(EVENT_SCHEMA.names)
    stamp = pa.scalar(known_at, INSTANT)
    with session(offline_limits(settings)) as connection:
        firsts = connection.execute(
            f"SELECT {CUSTOMER} FROM (SELECT {CUSTOMER}, row_number() OVER (ORDER BY {CUSTOMER}) - 1 AS place "  # noqa: S608 - our names
            f"FROM (SELECT DISTINCT {CUSTOMER} FROM read_parquet($file, hive_partitioning = false))) "
            f"WHERE place % $size = 0 ORDER BY {CUSTOMER}",
            {"file": str(files[0]), "size": customers_at_once},
        ).fetchall()
        bounds = [first for (first,) in firsts]
        for low, high in zip(bounds, [*bounds[1:], None], strict=True):
            # The files are sorted by customer: a range is read without the rest.
            range_ = f"{CUSTOMER} >= $low AND ($high IS NULL OR {CUSTOMER} < $high)"
            events = connection.execute(
                f"""
                WITH fresh AS (SELECT {columns} FROM read_parquet($new, hive_partitioning = false) WHERE {range_})
                FROM fresh UNION ALL
                SELECT {columns} FROM read_parquet($old, hive_partitioning = false) SEMI JOIN fresh USING ({CUSTOMER})
                WHERE {range_} AND (occurred_at >= $oldest OR revision > 0)
                """  # noqa: S608 - our names
                if len(files) > 1
                else f"SELECT {columns} FROM read_parquet($new, hive_partitioning = false) WHERE {range_}",  # noqa: S608 - our names
                {
                    "low": low,
                    "high": high,
                    "new": str(files[0]),
                    **({"old": [str(file) for file in files[1:]], "oldest": _oldest(known_at)} if files[1:] else {}),
                },
            ).fetch_arrow_table()
            rows = tiles(events.cast(EVENT_SCHEMA), known_at)
            rows = rows.append_column(EVENT_TIMESTAMP, pa.repeat(stamp, len(rows)))
            yield rows.append_column(CREATED_TIMESTAMP, pa.repeat(stamp, len(rows))).cast(ROWS)


def _matters(earlier: Delivery, known_at: datetime) -> bool:
    """Return whether a delivery may hold an event within the window, or a later revision of one."""
    return earlier.occurred_until is not None and (earlier.occurred_until >= _oldest(known_at) or earlier.revisions > 0)


def _oldest(known_at: datetime) -> datetime:
    """Return the first instant of the window's first day."""
    return datetime.combine(known_at.astimezone(UTC).date(), time(), UTC) - timedelta(days=WINDOW_DAYS - 1)
