"""Entity rows of historical features, read from any form that a caller may pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.errors import ChurnError
from feature_repo.files.duckdb_session import Limits, session
from feature_repo.stores.point_in_time.latest_known_rows import Ints

ENTITY_TIMESTAMP = "event_timestamp"
"""Feast's name for the instant of an entity row; any name is accepted for the only timestamp column."""

_EXACT_BITS: Final = {16: 11, 32: 24, 64: 53}
"""Width of a float -> bits of the integers that it holds exactly."""
_TEXT_HINT: Final = ": 7 and '7' are different customers here"


class EntityRowsError(ChurnError):
    """The entity rows can't be read, or can't be joined to the requested views."""

    error = "entity_rows_unfit"


@dataclass(frozen=True)
class EntityFrame:
    """Entity rows in their original order, with the name of the column that holds each row's instant."""

    table: pa.Table
    observed_at: str

    @staticmethod
    def from_any(given: Any, limits: Limits) -> EntityFrame:
        """Read a pandas frame, an Arrow table, batch or reader, a Parquet path, or a SELECT for DuckDB.

        A text that ends in ``.parquet`` is a path; a relative path, in SQL too, is below the home. Instants without a
        time zone are UTC, as in Feast; text is read as ISO 8601.

        Raises
        ------
        EntityRowsError
            If it is none of these, the statement is no single SELECT, or an instant is missing.
        """
        table = _table(given, limits)
        _refuse_doubled(table.column_names)
        observed_at = _instant_column(table)
        column = table.column(observed_at)
        if not pa.types.is_timestamp(column.type):
            try:
                instants = pd.to_datetime(column.to_pandas(), utc=True)
            except (ValueError, TypeError) as unread:
                raise EntityRowsError(
                    f"{observed_at} holds no instants", "give timestamps, or ISO 8601 text"
                ) from unread
            column = pa.array(instants.dt.as_unit("us") if len(instants) else [], pa.timestamp("us", "UTC"))
            table = table.set_column(table.column_names.index(observed_at), observed_at, column)
        if column.null_count:
            raise EntityRowsError(
                f"{column.null_count} entity rows have no {observed_at}", "say when each row was observed"
            )
        return EntityFrame(table, observed_at)

    def observed_us(self) -> Ints:
        """Return each row's instant in microseconds since 1970, UTC; finer fractions are cut off."""
        column = self.table.column(self.observed_at)
        micros = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
        return np.asarray(micros.to_numpy(), dtype=np.int64)

    def probes(self, keys: Sequence[tuple[str, pa.DataType]], observed_us: Ints) -> tuple[pa.Table, tuple[str, ...]]:
        """Return (i, k0 …, o) for DuckDB, and the SQL type that each key is compared as.

        Parameters
        ----------
        keys
            (entity column, type of the source's column) for each join key.

        Raises
        ------
        EntityRowsError
            If a key is missing, or is of another kind than the source's (an integer never matches a text; floats match
            integers if each is a whole number).
        """
        columns = {"i": pa.array(np.arange(len(observed_us), dtype=np.int64))}
        kinds = []
        for number, (name, stored) in enumerate(keys):
            if name not in self.table.column_names:
                raise EntityRowsError(
                    f"the entity rows have no column {name}", f"it is a join key; they have {self.table.column_names}"
                )
            kind = sql_type(stored)
            given = _key(self.table.column(name), name, stored)
            asked = given.type.value_type if pa.types.is_dictionary(given.type) else given.type
            # A column of nulls only has no type of its own, and matches no key.
            if not pa.types.is_null(asked) and sql_type(asked) != kind:
                raise EntityRowsError(
                    f"join key {name} is {given.type} in the entity rows and {stored} in the source",
                    f"cast it to {stored}" + (_TEXT_HINT if "VARCHAR" in {kind, sql_type(asked)} else ""),
                )
            columns[f"k{number}"] = given.cast({"VARCHAR": pa.string(), "BIGINT": pa.int64()}.get(kind, stored))
            kinds.append(kind)
        if not keys:
            columns["k0"] = pa.array(np.zeros(len(observed_us), dtype=np.int64))
        columns["o"] = pa.array(observed_us)
        return pa.table(columns), tuple(kinds)


def _key(given: pa.ChunkedArray, name: str, stored: pa.DataType) -> pa.ChunkedArray:
    """Return a key column with floats as integers where the source has integers.

    pandas turns integers into floats where one is null. NaN is null.

    Raises
    ------
    EntityRowsError
        If one is no whole number, or so large that its float may have lost digits.
    """
    if not (pa.types.is_floating(given.type) and pa.types.is_integer(stored)):
        return given
    # Arrow has no arithmetic for half floats.
    numbers = given.cast(pa.float64())
    numbers = pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    exact = 2 ** _EXACT_BITS[given.type.bit_width]
    within = pc.all(pc.less_equal(pc.abs(numbers), pa.scalar(exact, pa.float64())), min_count=0).as_py()
    try:
        if within:
            return numbers.cast(pa.int64())
        cause = None
    except pa.ArrowInvalid as fraction:
        cause = fraction
    raise EntityRowsError(
        f"join key {name} is {given.type} in the entity rows and {stored} in the source, and not each is a whole number"
        f" up to {exact}",
        "pandas makes integers floats where one is missing: read or cast the column as Int64",
    ) from cause


def _table(given: Any, limits: Limits) -> pa.Table:
    if isinstance(given, pd.DataFrame):
        return _arrow(given)
    if isinstance(given, pa.Table):
        return given
    if isinstance(given, pa.RecordBatch):
        return pa.Table.from_batches([given])
    if isinstance(given, pa.RecordBatchReader):
        return given.read_all()
    if isinstance(given, Path) or (isinstance(given, str) and given.strip().lower().endswith(".parquet")):
        path = limits.home / str(given).strip()
        if not path.exists():
            raise EntityRowsError(f"there is no file {given}", "a relative path is one below the home")
        return pq.read_table(path)
    if isinstance(given, str):
        with session(limits) as connection:
            return _selected(given, connection)
    raise EntityRowsError(
        f"entity rows can't be read from a {type(given).__name__}",
        "give a pandas frame, an Arrow table, the path of a Parquet file, or a SELECT",
    )


def _refuse_doubled(names: Sequence[str]) -> None:
    doubled = sorted({str(name) for name in names if list(names).count(name) > 1})
    if doubled:
        raise EntityRowsError(f"the entity rows have two columns called {', '.join(doubled)}", "rename one")


def _arrow(frame: pd.DataFrame) -> pa.Table:
    _refuse_doubled(list(frame.columns))
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as mixed:
        unfit = [str(name) for name in frame.columns if not _converts(frame[name])]
        raise EntityRowsError(
            f"the entity rows hold values of several kinds, or of none that is known, in {', '.join(unfit)}",
            "give each column one type, or leave it out",
        ) from mixed


def _converts(column: pd.Series[Any]) -> bool:
    try:
        pa.array(column)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return False
    return True


def _selected(sql: str, connection: duckdb.DuckDBPyConnection) -> pa.Table:
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise EntityRowsError("the text is not one SELECT", "a Parquet path ends in .parquet; SQL is one query")
        return connection.execute(statements[0]).fetch_arrow_table()
    except duckdb.Error as refused:
        raise EntityRowsError(
            f"DuckDB refused the SQL of the entity rows: {str(refused).splitlines()[0]}", "correct the SELECT"
        ) from refused


def _instant_column(table: pa.Table) -> str:
    if ENTITY_TIMESTAMP in table.column_names:
        return ENTITY_TIMESTAMP
    instants = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    if len(instants) != 1:
        raise EntityRowsError(
            f"which column says when a row was observed? Timestamps: {instants or 'none'}",
            f"call it {ENTITY_TIMESTAMP}",
        )
    return str(instants[0])


def sql_type(stored: pa.DataType) -> str:
    """Return the SQL type in which keys of this Arrow type are compared.

    Raises EntityRowsError for a type that is not supported as a key.
    """
    if pa.types.is_integer(stored):
        return "BIGINT"
    if pa.types.is_string(stored) or pa.types.is_large_string(stored) or stored == pa.string_view():
        return "VARCHAR"
    kinds = {pa.bool_(): "BOOLEAN", pa.date32(): "DATE", pa.binary(): "BLOB", pa.float64(): "DOUBLE"}
    if stored in kinds:
        return kinds[stored]
    raise EntityRowsError(f"a join key of type {stored} can't be compared", "use text or integers as keys")
