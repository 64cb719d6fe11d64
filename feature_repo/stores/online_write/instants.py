"""Instants in the SQLite online store: seconds since 1970, UTC; and the conversion of older files.

Event timestamps are whole seconds, which is all that Feast's own class can read. Created timestamps, which it reads in
its text search alone, keep their microseconds.

Feast's own SQLite store takes the UTC clock's time for local time, so what it stores depends on the time zone of the
writing process; so did the files of this project until ``PRAGMA user_version`` 1. See
docs/decisions/0036-instants-online.md.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

import numpy as np

from feature_repo.stores.wire.varint import Ints

DOUBT_S: Final = 26 * 3600
"""Largest error, seconds, of an instant written and read in different time zones: +14:00 and -12:00."""
_VERSION: Final = 1
_DOUBTED: Final = "instants_in_doubt"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def utc_seconds(instants_us: Ints) -> list[int]:
    """Return instants (UTC microseconds since 1970) as whole seconds; fractions are cut off, as in Feast."""
    found: list[int] = (np.sign(instants_us) * (np.abs(instants_us) // 1_000_000)).tolist()
    return found


def utc_exactly(instants_us: Ints) -> list[float]:
    """Return instants (UTC microseconds since 1970) as seconds, exact to the microsecond until year 2242."""
    found: list[float] = (instants_us / 1_000_000).tolist()
    return found


def local_seconds(instants_us: Ints) -> list[int]:
    """Return instants as Feast's own SQLite class reads them in this process.

    That is the UTC clock's time, taken as local. ``instants_us`` are UTC microseconds since 1970.
    """
    distinct, codes = np.unique(instants_us, return_inverse=True)
    naive = [(_EPOCH + timedelta(microseconds=int(instant))).replace(tzinfo=None) for instant in distinct]
    found: list[int] = np.array([int(instant.timestamp()) for instant in naive], np.int64)[codes].tolist()
    return found


def utc_of_local(stored: int) -> int:
    """Return the UTC second of a value that :func:`local_seconds` gave in this time zone."""
    return int(datetime.fromtimestamp(stored).replace(tzinfo=UTC).timestamp())  # noqa: DTZ006 - undone here


def is_utc(connection: sqlite3.Connection) -> bool:
    """Return whether the file's instants are UTC already."""
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] >= _VERSION)


def bring_to_utc(connection: sqlite3.Connection) -> None:
    """Convert an older file's instants to UTC, once, in one transaction.

    They are interpreted in this process's time zone, as the version that wrote them read them. The zone that wrote a
    row is unknown: each table with rows is marked as in doubt until a materialisation of the whole window has written
    it again. Raises sqlite3.OperationalError where the file is locked or may not be written.
    """
    if is_utc(connection):
        return
    connection.create_function("utc_of_local", 1, cache(utc_of_local), deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not is_utc(connection):
            for table in _online_tables(connection):
                for column in ("event_ts", "created_ts"):
                    connection.execute(
                        f"UPDATE {_quoted(table)} SET {column} = utc_of_local({column}) "  # noqa: S608 - quoted
                        f"WHERE typeof({column}) = 'integer' AND utc_of_local({column}) != {column} + 0"
                    )
                if connection.execute(f"SELECT 1 FROM {_quoted(table)} LIMIT 1").fetchone():  # noqa: S608
                    connection.execute(f"CREATE TABLE IF NOT EXISTS {_DOUBTED} (online_table TEXT PRIMARY KEY)")
                    connection.execute(f"INSERT OR IGNORE INTO {_DOUBTED} VALUES (?)", (table,))  # noqa: S608
            connection.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def has_doubted(connection: sqlite3.Connection) -> set[str]:
    """Return the tables whose older rows may be off by a time zone."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_DOUBTED,)).fetchone():
        return set()
    return {row[0] for row in connection.execute(f"SELECT online_table FROM {_DOUBTED}")}  # noqa: S608


def convert_doubted(connection: sqlite3.Connection, tables: Collection[str]) -> None:
    """Remove the mark of doubt from the tables."""
    with connection:
        connection.executemany(f"DELETE FROM {_DOUBTED} WHERE online_table = ?", [(table,) for table in tables])  # noqa: S608


def _online_tables(connection: sqlite3.Connection) -> list[str]:
    return [
        row[0]
        for row in connection.execute(
            "SELECT name FROM sqlite_master m WHERE type = 'table' AND 3 = (SELECT count(*) FROM "
            "pragma_table_info(m.name) c WHERE c.name IN ('entity_key', 'event_ts', 'created_ts'))"
        )
    ]


def _quoted(table: str) -> str:
    return '"' + table.replace('"', '""') + '"'
