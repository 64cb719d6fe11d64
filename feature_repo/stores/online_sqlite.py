"""Feast's SQLite online store with planned reads.

Configured as ``online_store: {type: …online_sqlite.PlannedSqliteOnlineStore}``. See
docs/decisions/0025-online-reads.md.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from feast import FeatureView, RepoConfig
from feast.infra.infra_object import InfraObject
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id, extract_text_and_num
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.files.regular_files import identity
from feature_repo.stores.errors import StoreUnavailableError
from feature_repo.stores.online_read.planned_store import PlannedReadMixin
from feature_repo.stores.online_read.read_plan import ReadPlan
from feature_repo.stores.online_write.instants import bring_to_utc, is_utc, utc_exactly, utc_of_local, utc_seconds
from feature_repo.stores.online_write.push_rows import FeastRows, PushedRow, pushed_rows, tell_kept
from feature_repo.stores.online_write.sqlite_writer import upsert_sql

_KEYS_AT_ONCE: Final = 500
"""Bound values per statement: SQLite has a limit, and each number of values is another statement."""


class PlannedSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """Configuration: that of Feast's SQLite store, section ``online_store`` of feature_store.yaml.

    Examples
    --------
    >>> from feature_repo.stores.online_sqlite import PlannedSqliteOnlineStoreConfig
    >>> PlannedSqliteOnlineStoreConfig(path="data/online.db").type
    'feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore'
    """

    type: Literal["feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore"] = (
        "feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore"
    )


class PlannedSqliteOnlineStore(PlannedReadMixin, SqliteOnlineStore):
    """Feast's SQLite store, its tables and its API; one statement per view reads all entities.

    Instants in the tables are UTC, where Feast's class takes the process's time zone; in UTC both are the same. Every
    API writes by the rule of :class:`~feature_repo.stores.online_write.sqlite_writer.SqliteWriter`. Vector search and
    the OpenAI-compatible store are Feast's, including its writer and its local instants.

    Examples
    --------
    Feast makes the store from its configuration, and reads of ``FeatureStore.get_online_features`` are planned:
    :class:`feature_repo.stores.online_features.OnlineFeatureReader` shows one.

    >>> from datetime import UTC, datetime
    >>> from feature_repo.stores.online_sqlite import PlannedSqliteOnlineStore
    >>> PlannedSqliteOnlineStore().instant(int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()))
    datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """

    _utc = False
    _file: tuple[int, int] | None = None
    """Device and inode of the open file: a home may be restored while a service uses it."""

    _conn: sqlite3.Connection | None = None

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._writing = threading.Lock()

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        path = Path(self._get_db_path(config))
        connection = self._conn
        if connection is not None and identity(path) == self._file:
            return connection
        with self._lock:
            return self._opened(config, path)

    def _opened(self, config: RepoConfig, path: Path) -> sqlite3.Connection:
        found = identity(path)
        if self._conn is not None and found != self._file:
            if found is None:
                raise StoreUnavailableError(
                    "the SQLite online store (feast/online.db below the home) was removed while it was in use",
                    "restore the whole home; or run: churn apply, then churn materialize",
                )
            self._conn.close()
            self._conn = None
        opened = self._conn is None
        connection: sqlite3.Connection = super()._get_conn(config)
        if opened:
            self._utc, self._file = False, identity(path)
            # A file that is locked or may not be written is read as it is. An empty one may be a copy in progress:
            # nothing is written to it.
            with suppress(sqlite3.OperationalError):
                if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    bring_to_utc(connection)
        return connection

    def read_rows(self, config: RepoConfig, plan: ReadPlan, keys: Sequence[bytes]) -> list[list[Any]]:
        """Return the stored bytes, and timestamps as seconds since 1970; raises sqlite3.Error."""
        rows: dict[bytes, list[Any]] = {key: [None] * plan.width for key in keys}
        for view in plan.views:
            places = {feature: view.start + place for place, feature in enumerate(view.features)}
            stamp = view.stamp
            for key, feature, value, seconds in self._select(config, f"{config.project}_{view.name}", keys):
                row = rows[key]
                row[stamp] = seconds
                place = places.get(feature)
                if place is not None:
                    row[place] = value
        return list(rows.values())

    def instant(self, stamp: int) -> datetime:
        """Return a stored event timestamp (seconds since 1970) as a UTC datetime."""
        return datetime.fromtimestamp(stamp, UTC)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,  # noqa: ARG002 - Feast's signature; its own class reads all, too
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Return the stored values of entities.

        Parameters
        ----------
        config
            As Feast passes it.
        table
            The feature view.
        entity_keys
            n keys.
        requested_features
            Names of features; None: all of the view.

        Returns
        -------
        list of tuple
            n times (event timestamp, feature -> value), (None, None) where nothing is stored.
        """
        version = config.entity_key_serialization_version
        keys = [serialize_entity_key(key, entity_key_serialization_version=version) for key in entity_keys]
        found: dict[bytes, tuple[datetime | None, dict[str, Value]]] = {}
        for key, feature, value, seconds in self._select(config, _table(config, table), list(dict.fromkeys(keys))):
            at = None if seconds is None else self.instant(seconds)
            found.setdefault(key, (at, {}))[1][feature] = Value.FromString(value)
        return [found.get(key, (None, None)) for key in keys]

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: FeastRows, progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows, none of them over a later one; the log counts those left out.

        Parameters
        ----------
        config, table
            As Feast passes them.
        data
            Rows of (entity key, feature -> value, event timestamp, created timestamp).
        progress
            Called with the number of rows.

        Raises
        ------
        sqlite3.Error
            If the file can't be written.
        """
        if config.online_store.vector_enabled or config.online_store.enable_openai_compatible_store:
            super().online_write_batch(config, table, data, progress)
            return
        # Feast's text search reads created timestamps, but no fractions of a second.
        created_at = utc_seconds if config.online_store.text_search_enabled else utc_exactly
        rows = [row for row in pushed_rows(data, config.entity_key_serialization_version) if row.values]
        groups = [
            (features, [_arguments(row, features, created_at) for row in some])
            for features, some in groupby(rows, lambda row: tuple(sorted(row.values)))
        ]
        # The threads share one connection and its transaction: another thread's commit would end this one half-way.
        with self._writing:
            kept = _upserted(self._get_conn(config), _table(config, table), groups)
        tell_kept(table.name, kept, len(rows))
        if progress:
            progress(len(data))

    def plan(self, config: RepoConfig, desired_registry_proto: Registry) -> list[InfraObject]:
        """Return the tables that are missing in the file.

        Feast records created tables only for the store type ``sqlite``.
        """
        wanted: list[InfraObject] = super().plan(config, desired_registry_proto)
        there = {row[0] for row in self._get_conn(config).execute("SELECT name FROM sqlite_master")}
        # Views that are not served online never get a table.
        there |= {f"{config.project}_{v.spec.name}" for v in desired_registry_proto.feature_views if not v.spec.online}
        for table in wanted:
            if table.name in there:
                table.conn.close()
        return [table for table in wanted if table.name not in there]

    def _select(self, config: RepoConfig, table: str, keys: Sequence[bytes]) -> list[Any]:
        rows: list[Any] = []
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            # Two threads that run the same statement of a connection at once can get each other's bound keys.
            with self._lock:
                connection = self._get_conn(config)
                try:
                    self._utc = self._utc or is_utc(connection)
                    found = connection.execute(_statement(table, len(some)), some).fetchall()
                except sqlite3.Error as refused:
                    if not _is_held(refused):
                        self._drop(connection)
                    raise
                rows += found if self._utc else [(*row[:3], row[3] and utc_of_local(row[3])) for row in found]
        return rows

    def _drop(self, connection: sqlite3.Connection) -> None:
        """Close the connection, while the caller holds the readers' lock: the next read opens the file anew.

        If a file is rewritten in place, SQLite may keep an intermediate state for good. A write in progress would lose
        its rows: then the connection stays, and the next failing read closes it.
        """
        if self._writing.acquire(blocking=False):
            try:
                connection.close()
                self._conn = None
            finally:
                self._writing.release()


def _table(config: RepoConfig, view: FeatureView) -> str:
    name: str = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
    return name


def _upserted(
    connection: sqlite3.Connection, table: str, groups: Sequence[tuple[tuple[str, ...], list[list[Any]]]]
) -> int:
    """Write rows, grouped by their features, in one transaction; return the number of rows not written."""
    bring_to_utc(connection)
    kept = 0
    with connection:
        for features, arguments in groups:
            before = connection.total_changes
            connection.executemany(upsert_sql(table, features), arguments)
            kept += len(arguments) - (connection.total_changes - before) // len(features)
    return kept


def _is_held(refused: sqlite3.Error) -> bool:
    """Return whether another connection's lock caused the error: the file is the one that was opened."""
    return getattr(refused, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _statement(table: str, keys: int) -> str:
    quoted = table.replace('"', '""')
    # "+ 0" removes the column's declared type, and with it Feast's converter, a Python call per row.
    return (
        f'SELECT entity_key, feature_name, value, event_ts + 0 FROM "{quoted}" '  # noqa: S608 - a quoted name, bound values
        f"WHERE entity_key IN ({','.join('?' * keys)})"
    )


def _arguments(row: PushedRow, features: Sequence[str], created_at: Callable[[Any], list[Any]]) -> list[Any]:
    (event,) = utc_seconds(np.array([row.event_us]))
    created = None if row.created_us is None else created_at(np.array([row.created_us]))[0]
    values = [row.values[feature] for feature in features]
    spelt = [(value.SerializeToString(), extract_text_and_num(value, compute_num=False)[0]) for value in values]
    return [row.key, event, created, *(each for pair in spelt for each in pair)]
