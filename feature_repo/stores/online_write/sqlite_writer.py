"""Writer of rows to Feast's SQLite tables: one transaction per batch, no newer value overwritten.

See docs/decisions/0036-instants-online.md.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from feast.infra.online_stores.helpers import extract_text_and_num
from feast.protos.feast.types.Value_pb2 import Value
from feast.value_type import ValueType

from feature_repo.clocks import CLOCKS_DIFFER
from feature_repo.stores.online_write.instants import (
    DOUBT_S,
    bring_to_utc,
    convert_doubted,
    has_doubted,
    local_seconds,
    utc_exactly,
    utc_seconds,
)
from feature_repo.stores.online_write.row_schema import OnlineRowSchema, SourceColumn
from feature_repo.stores.wire.value_encoder import microseconds

_CACHE_KIB: Final = 65536
_WITHOUT_TEXT: Final = {ValueType.BYTES, ValueType.UNIX_TIMESTAMP}


@dataclass(frozen=True)
class Upserts:
    """One batch for one view's table: the statement, and its arguments per key."""

    view: str
    statement: str
    rows: list[tuple[Any, ...]]


class SqliteWriter:
    """Writer with its own connection to the file of Feast's SQLite store.

    A row is written if its event timestamp is later than that of the stored row; if it is the same and the row was
    created no earlier: a correction; or if the stored one is after this machine's clock, which can't be right. The
    table keeps whole seconds of event timestamps, as Feast writes them; of rows within a second the one that was
    created last stays. ``kept`` counts, per view, the keys whose stored row was not changed. ``overwrite_newer`` writes
    everything. Readers see a batch whole or not at all; they wait only while it is committed, and the writer waits for
    them.

    ``whole_seconds`` cuts created timestamps off too, for Feast's text search, which reads them. ``local`` writes
    instants as Feast's own class reads them in this process, for that class alone; see
    :mod:`feature_repo.stores.online_write.instants`. ``settles`` states that all rows of the views' window follow, so
    that rows in doubt are written again and their mark is removed.
    """

    overlaps = False
    """Whether batches are written while the next is encoded.

    No: SQLite's Python module takes and releases the interpreter's lock for each row, which is slow next to a busy
    thread.
    """

    def __init__(
        self,
        path: str,
        *,
        project: str,
        shape: OnlineRowSchema,
        timeout_s: float,
        overwrite_newer: bool,
        local: bool = False,
        whole_seconds: bool = False,
        settles: bool = False,
    ) -> None:
        self._connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
        # Changed pages beyond the cache go to the file before the commit, and lock readers out until then.
        self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._shape = shape
        self._seconds: Callable[[Any], list[int]] = local_seconds if local else utc_seconds
        self._created: Callable[[Any], list[Any]] = self._seconds if local or whole_seconds else utc_exactly
        self.kept: Counter[str] = Counter()
        tables = {view: f"{project}_{view}" for view in shape.views}
        self._doubted: set[str] = set()
        if not local:
            bring_to_utc(self._connection)
            if settles:
                self._doubted = has_doubted(self._connection) & set(tables.values())
        self._statements = {
            view: upsert_sql(
                tables[view],
                sorted(features),
                overwrite_newer=overwrite_newer,
                doubt_s=DOUBT_S if tables[view] in self._doubted else None,
            )
            for view, features in shape.views.items()
        }

    def prepare(self, rows: pa.RecordBatch) -> list[Upserts]:
        """Return the statements for these rows, one per table.

        Keys are sorted: neighbours share the pages of the index.
        """
        keys = self._shape.entity_keys(rows)
        order = pc.sort_indices(keys)
        rows, keys = rows.take(order), keys.take(order).to_pylist()
        stamps = [keys, self._seconds(self._shape.events_us(rows))]
        if self._shape.created:
            created = rows.column(self._shape.created)
            known = created.is_valid().to_numpy(zero_copy_only=False)
            seconds = iter(self._created(microseconds(created.drop_null())))
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
            upserts.append(Upserts(view, self._statements[view], list(zip(*columns, strict=True))))
        return upserts

    def write(self, upserts: list[Upserts]) -> None:
        """Write a batch in one transaction. Raises sqlite3.Error; nothing of the batch is stored then."""
        kept: Counter[str] = Counter()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for table in upserts:
                before = self._connection.total_changes
                self._connection.executemany(table.statement, table.rows)
                changed = self._connection.total_changes - before
                kept[table.view] += len(table.rows) - changed // len(self._shape.views[table.view])
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()
        self.kept += kept

    def finish(self) -> None:
        """Remove the mark of doubt from the tables that are written now.

        Each batch was committed when :meth:`write` returned.
        """
        if self._doubted:
            convert_doubted(self._connection, self._doubted)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def upsert_sql(
    table: str, features: Sequence[str], *, overwrite_newer: bool = False, doubt_s: int | None = None
) -> str:
    """Return one statement that writes all of a key's rows: Feast stores one row per feature.

    Its arguments: the key, event and created timestamp (seconds), then value and text of each feature in turn. With
    ``doubt_s`` a stored event timestamp counts as later only if it is later by more than that (seconds).
    """
    quoted = '"' + table.replace('"', '""') + '"'
    named = [feature.replace("'", "''") for feature in features]
    places = ",".join(f"(?1, '{name}', ?{4 + 2 * place}, ?{5 + 2 * place}, ?2, ?3)" for place, name in enumerate(named))
    columns = ["value", "value_text", "event_ts", "created_ts"]
    if overwrite_newer:
        rule = ""
    else:
        clock_s = int((datetime.now(UTC) + CLOCKS_DIFFER).timestamp())
        doubted = "" if doubt_s is None else f" OR excluded.event_ts + {doubt_s} >= {quoted}.event_ts"
        rule = (
            f" WHERE coalesce(excluded.event_ts > {quoted}.event_ts OR (excluded.event_ts = {quoted}.event_ts"
            f" AND coalesce(excluded.created_ts >= {quoted}.created_ts, 1))"
            f" OR {quoted}.event_ts > {clock_s}{doubted}, 1)"
        )
    return (
        f"INSERT INTO {quoted} (entity_key, feature_name, {', '.join(columns)}) VALUES {places}"  # noqa: S608 - quoted names, bound values
        " ON CONFLICT(entity_key, feature_name) DO UPDATE SET "
        + ", ".join(f"{column} = excluded.{column}" for column in columns)
        + rule
    )


def _texts(values: pa.Array, column: SourceColumn, spelt: list[bytes]) -> Iterator[str | None]:
    """Return the search texts that Feast stores next to values: str(value), None where there is none."""
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
