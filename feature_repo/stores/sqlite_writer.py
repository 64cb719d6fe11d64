"""Write encoded feature rows to Feast's SQLite tables: a transaction a batch, and no newer value overwritten."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from feast.infra.online_stores.helpers import extract_text_and_num
from feast.protos.feast.types.Value_pb2 import Value
from feast.value_type import ValueType

from feature_repo.stores.encoding import microseconds
from feature_repo.stores.online_rows import Column, OnlineRows

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CACHE_KIB: Final = 65536
_WITHOUT_TEXT: Final = {ValueType.BYTES, ValueType.UNIX_TIMESTAMP}


@dataclass(frozen=True)
class Upserts:
    """What one batch puts into one table: the statement, and its arguments a key."""

    statement: str
    rows: list[tuple[Any, ...]]


class SqliteWriter:
    """A connection of its own to the file of Feast's SQLite store.

    A row is written where its event timestamp is later than that of the stored row, or the same and it was created no
    earlier: a correction. The table keeps whole seconds, as Feast writes them, so that is how finely it can tell.
    ``overwrite_newer`` writes everything. Readers see a batch whole or not at all; they wait only while it is
    committed, and the writer waits for them.
    """

    overlaps = False
    """SQLite's Python module takes and drops the interpreter's lock for each row: beside a busy thread it crawls."""

    def __init__(self, path: str, *, project: str, shape: OnlineRows, timeout_s: float, overwrite_newer: bool) -> None:
        self._connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
        # Changed pages beyond the cache go to the file before the commit, and lock readers out until then.
        self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._shape = shape
        self._statements = {
            view: _upsert(f"{project}_{view}", sorted(features), overwrite_newer=overwrite_newer)
            for view, features in shape.views.items()
        }

    def prepare(self, rows: pa.RecordBatch) -> list[Upserts]:
        """Return what writes these rows, a table each. Keys are sorted: neighbours share the pages of the index."""
        keys = self._shape.entity_keys(rows)
        order = pc.sort_indices(keys)
        rows, keys = rows.take(order), keys.take(order).to_pylist()
        stamps = [keys, _seconds(self._shape.events_us(rows))]
        if self._shape.created:
            created = rows.column(self._shape.created)
            known = created.is_valid().to_numpy(zero_copy_only=False)
            seconds = iter(_seconds(microseconds(created.drop_null())))
            stamps.append([next(seconds) if is_known else None for is_known in known])
        else:
            stamps.append([None] * len(keys))
        upserts = []
        for view, values in self._shape.values(rows).items():
            columns = list(stamps)
            for feature in sorted(values):
                encoded = values[feature]
                if pa.types.is_dictionary(encoded.type):
                    encoded = encoded.dictionary_decode()
                spelt = encoded.to_pylist()
                column = self._shape.views[view][feature]
                columns += [spelt, list(_texts(rows.column(column.source), column, spelt))]
            upserts.append(Upserts(self._statements[view], list(zip(*columns, strict=True))))
        return upserts

    def write(self, upserts: list[Upserts]) -> None:
        """Write a batch in one transaction. Raises sqlite3.Error; nothing of the batch is stored then."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for table in upserts:
                self._connection.executemany(table.statement, table.rows)
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()

    def finish(self) -> None:
        """Do nothing: each batch is committed when :meth:`write` returns."""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _upsert(table: str, features: list[str], *, overwrite_newer: bool) -> str:
    """Return one statement that writes all of a key's rows: Feast keeps a row a feature."""
    quoted = '"' + table.replace('"', '""') + '"'
    named = [feature.replace("'", "''") for feature in features]
    places = ",".join(f"(?1, '{name}', ?{4 + 2 * place}, ?{5 + 2 * place}, ?2, ?3)" for place, name in enumerate(named))
    columns = ["value", "value_text", "event_ts", "created_ts"]
    newer = (
        ""
        if overwrite_newer
        else f" WHERE coalesce(excluded.event_ts > {quoted}.event_ts OR (excluded.event_ts = {quoted}.event_ts"
        f" AND coalesce(excluded.created_ts >= {quoted}.created_ts, 1)), 1)"
    )
    return (
        f"INSERT INTO {quoted} (entity_key, feature_name, {', '.join(columns)}) VALUES {places}"  # noqa: S608 - quoted names, bound values
        " ON CONFLICT(entity_key, feature_name) DO UPDATE SET "
        + ", ".join(f"{column} = excluded.{column}" for column in columns)
        + newer
    )


def _seconds(instants_us: npt.NDArray[np.int64]) -> list[int]:
    """Return instants as Feast's SQLite store keeps them: whole seconds of the UTC clock taken for local time."""
    distinct, codes = np.unique(instants_us, return_inverse=True)
    naive = [(_EPOCH + timedelta(microseconds=int(instant))).replace(tzinfo=None) for instant in distinct]
    found: list[int] = np.array([int(instant.timestamp()) for instant in naive], np.int64)[codes].tolist()
    return found


def _texts(values: pa.Array, column: Column, spelt: list[bytes]) -> Iterator[str | None]:
    """Return what Feast puts beside a value to search by: str(value), None for nulls and for what has no such text."""
    kind = column.value_type
    if kind is ValueType.STRING and pa.types.is_string(values.type):
        return iter(values.to_pylist())
    if kind is ValueType.DOUBLE and pa.types.is_float64(values.type):
        # An empty value is a null or a NaN.
        numbers = values.to_numpy(zero_copy_only=False).tolist()
        return (str(number) if value else None for number, value in zip(numbers, spelt, strict=True))
    if (kind in {ValueType.INT64, ValueType.INT32} and pa.types.is_integer(values.type)) or (
        kind is ValueType.BOOL and pa.types.is_boolean(values.type)
    ):
        return (None if number is None else str(number) for number in values.to_pylist())
    if kind in _WITHOUT_TEXT:
        return (None for _ in spelt)
    return (extract_text_and_num(Value.FromString(value), compute_num=False)[0] for value in spelt)
