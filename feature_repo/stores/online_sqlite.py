"""Feast's SQLite online store, read by plan: ``online_store: {type: …online_sqlite.PlannedSqliteOnlineStore}``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from feast import RepoConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig

from feature_repo.stores.planned import PlannedReads
from feature_repo.stores.read_plan import ReadPlan, ViewRead

_KEYS_AT_ONCE: Final = 500
"""Bound values of a statement: SQLite has a limit, and each number of them is a statement of its own."""


class PlannedSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """Configuration: that of Feast's SQLite store."""

    type: Literal["feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore"] = (
        "feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore"
    )


class PlannedSqliteOnlineStore(PlannedReads, SqliteOnlineStore):
    """Feast's SQLite store, its tables and its API; a view is one statement for all entities. Writes are Feast's."""

    def read_rows(self, config: RepoConfig, plan: ReadPlan, keys: Sequence[bytes]) -> list[list[Any]]:
        """Return the stored bytes, and timestamps as the table's integers; raises sqlite3.Error."""
        connection = self._get_conn(config)
        rows: dict[bytes, list[Any]] = {key: [None] * plan.width for key in keys}
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            for view in plan.views:
                places = {feature: view.start + place for place, feature in enumerate(view.features)}
                stamp = view.stamp
                for key, feature, value, seconds in connection.execute(_select(config.project, view, len(some)), some):
                    row = rows[key]
                    row[stamp] = seconds
                    place = places.get(feature)
                    if place is not None:
                        row[place] = value
        return list(rows.values())

    def instant(self, stamp: int) -> datetime:
        """Return an event timestamp: Feast's table holds the UTC clock's time, taken for local time."""
        return datetime.fromtimestamp(stamp).replace(tzinfo=UTC)  # noqa: DTZ006 - see above


def _select(project: str, view: ViewRead, keys: int) -> str:
    table = f"{project}_{view.name}".replace('"', '""')
    # "+ 0" takes the column's declared type away, and with it Feast's converter, a Python call a row.
    return (
        f'SELECT entity_key, feature_name, value, event_ts + 0 FROM "{table}" '  # noqa: S608 - a quoted name, bound values
        f"WHERE entity_key IN ({','.join('?' * keys)})"
    )
