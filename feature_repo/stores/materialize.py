"""Materialisation: copies the newest offline values into the online store.

Used by the command line and the materialisation flow. See docs/decisions/0013-materialisation.md.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from configs.settings import Settings
from feature_repo.contract import ACTIVITY_SOURCE, CREATED_TIMESTAMP, CUSTOMER, EVENT_TIMESTAMP, SOURCE, TTL_DAYS
from feature_repo.files.duckdb_session import offline_limits, session
from feature_repo.files.parquet_tables import table_files
from feature_repo.stores.customers import offline_files
from feature_repo.stores.errors import NothingRegisteredError, NothingToMaterializeError, translate_store_errors
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.materialization_record import MaterializationRecord, write_record
from feature_repo.stores.point_in_time.parquet_source import has_files


@dataclass(frozen=True)
class Materialized:
    """Result of a run.

    Parameters
    ----------
    views, customers
        How many views and customers were written.
    newest
        The newest event timestamp (UTC) among the values.
    kept
        View -> rows not written because the online store holds a later event timestamp; views without any are left out.
    """

    views: int
    customers: int
    newest: datetime
    kept: dict[str, int] = field(default_factory=dict)


def materialize(settings: Settings, now: datetime, *, overwrite_newer: bool = False) -> Materialized:
    """Write each customer's newest unexpired values online.

    The rule is that of :class:`feature_repo.stores.engine.ColumnarComputeEngine`: the whole TTL window as known at
    ``now``; no value replaces a later one, unless ``overwrite_newer``. Views whose table has no file are left out.

    Parameters
    ----------
    settings
        The home and the stores.
    now
        The instant as of which values are known, tz-aware UTC.
    overwrite_newer
        Whether offline values replace later ones of the online store.

    Raises
    ------
    NothingRegisteredError, NothingToMaterializeError
        If there are no views yet, or no rows of the last TTL days.
    RegistryUnavailableError, StoreUnavailableError
        If a store can't be used; what was written before stays, and the next run writes everything again.

    Examples
    --------
    :class:`~feature_repo.stores.online_features.OnlineFeatureReader` shows a whole run. Without definitions there is
    nothing to write:

    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from feature_repo.stores.materialize import materialize
    >>> materialize(load_settings(home=Path(tempfile.mkdtemp())), datetime(2024, 1, 2, tzinfo=UTC))
    Traceback (most recent call last):
        ...
    feature_repo.stores.errors.NothingRegisteredError: no feature view is registered
    """
    start = now - timedelta(days=TTL_DAYS)
    with translate_store_errors(settings):
        store = open_feature_store(settings, overwrite_newer=overwrite_newer)
        online = [view for view in store.list_feature_views() if view.online]
        if not online:
            raise NothingRegisteredError("no feature view is registered", "run: churn apply")
        # Listed before the copy: a file that is added meanwhile may not be in it.
        files = {table: table_files(settings.home, table) for table in (SOURCE, ACTIVITY_SOURCE)}
        parts = {table: len(each) for table, each in files.items()}
        customers, newest = _young(settings, start, now)
        next_known_at = _next_known_at(settings, files.values(), now)
        # A table without files is no error: there may be extracts and no events.
        views = [view.name for view in online if has_files(settings.home, view.batch_source)]
        with contextlib.redirect_stdout(io.StringIO()):  # Feast prints its progress
            store.materialize(start_date=start, end_date=now, feature_views=views)
    used = settings.feast.online_store
    write_record(settings.home, MaterializationRecord(now, newest, customers, len(views), used, parts, next_known_at))
    kept = getattr(store._get_provider().batch_engine, "kept", {})  # noqa: SLF001 - Feast has no other way to ask
    return Materialized(len(views), customers, newest, {view: count for view, count in kept.items() if count})


def _young(settings: Settings, start: datetime, now: datetime) -> tuple[int, datetime]:
    """Return the number of customers with offline values in [start, now], and the newest event timestamp."""
    with session(offline_limits(settings)) as connection:
        customers, newest_us = connection.execute(
            f"SELECT count(DISTINCT {CUSTOMER}), epoch_us(max({EVENT_TIMESTAMP})) "  # noqa: S608 - names of ours
            "FROM read_parquet($files, hive_partitioning = false) "
            f"WHERE {EVENT_TIMESTAMP} BETWEEN $start AND $now AND {CREATED_TIMESTAMP} <= $now",
            {"files": offline_files(settings), "start": start, "now": now},
        ).fetchall()[0]
    if not customers:
        raise NothingToMaterializeError(
            f"no offline value is from the last {TTL_DAYS} days: older ones have expired and are not served",
            "ingest a newer extract; a first one is dated 30 days before its --as-of",
        )
    return int(customers), datetime.fromtimestamp(newest_us / 1e6, UTC)


def _next_known_at(settings: Settings, tables: Iterable[list[str]], now: datetime) -> datetime | None:
    """Return when the first row of the tables' files that is not known at ``now`` becomes known; None without one."""
    found: list[int] = []
    with session(offline_limits(settings)) as connection:
        for files in filter(None, tables):
            least_us = connection.execute(
                f"SELECT epoch_us(min({CREATED_TIMESTAMP})) FROM read_parquet($files, hive_partitioning = false) "  # noqa: S608 - names of ours
                f"WHERE {CREATED_TIMESTAMP} > $now",
                {"files": files, "now": now},
            ).fetchall()[0][0]
            found += [] if least_us is None else [least_us]
    return datetime.fromtimestamp(min(found) / 1e6, UTC) if found else None
