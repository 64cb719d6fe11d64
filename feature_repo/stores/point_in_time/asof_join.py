"""Point-in-time join of one source to entity rows: plans the scan, then searches in buckets.

See docs/decisions/0012-point-in-time-join.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.files.duckdb_session import Limits, session
from feature_repo.stores.point_in_time.asof_sql import BucketScan, latest_sql, pairs_sql
from feature_repo.stores.point_in_time.key_codes import KeyCodes
from feature_repo.stores.point_in_time.latest_known_rows import Ints, KnownRows, latest_known
from feature_repo.stores.point_in_time.parquet_source import ParquetDataset, ParquetFragment, SourceColumnError

PROBES_A_KEY_MERGED = 4
"""Probes per key from which on the sorted search is used.

An estimate: at 1 probe per key the two methods took 0.9 CPU seconds each for 1 M rows, 14.3 against DuckDB's 8.3 for 10
M; at 12 the sorted search took 13. Values between were not measured.
"""
ROWS_MERGED = 500_000
"""Stored rows up to which the sorted search is always used: starting DuckDB costs more than it saves."""
_ROWS_CODED = 1_000_000
_BYTES_A_PROBE = 200
_BYTES_A_ROW = 90


@dataclass(frozen=True)
class Times:
    """The source's timestamp columns."""

    event: str
    created: str | None


def plan_scan(
    parts: ParquetDataset,
    times: Times,
    keys: Sequence[tuple[str, str]],
    window_us: tuple[int | None, int],
    known_by_us: int | None,
) -> tuple[ParquetDataset, BucketScan]:
    """Return the files that may hold a row of the window, and how to read them.

    Times are in microseconds since 1970, UTC.

    Raises
    ------
    SourceColumnError
        If a timestamp or key column is missing, or a timestamp column is of another type.
    """
    kinds = {name: _instant_kind(parts, name) for name in (times.event, times.created) if name}
    for column, _ in keys:
        if parts.schema.get_field_index(column) < 0:
            raise SourceColumnError(f"source {parts.name} has no column {column}", "it is a join key of the view")
    kept = parts.within(times.event, window_us[0], window_us[1])
    if not kept.fragments:
        return kept, BucketScan(
            (), 1, tuple(keys), times.event, "tz", times.created, "tz", *window_us, None, None, None
        )
    bounds = kept.bounds_us(times.event)
    return kept, BucketScan(
        files=tuple(part.path for part in kept.fragments),
        stride=kept.stride,
        keys=tuple(keys),
        event=times.event,
        event_type=kinds[times.event],
        created=times.created,
        created_type=kinds[times.created] if times.created else "tz",
        event_from_us=window_us[0],
        until_us=window_us[1],
        known_by_us=known_by_us,
        event_bounds_us=bounds,
        created_bounds_us=kept.bounds_us(times.created) if times.created else None,
        by_name=not kept.uniform,
    )


def _instant_kind(parts: ParquetDataset, column: str) -> str:
    index = parts.schema.get_field_index(column)
    kind = parts.schema.field(index).type if index >= 0 else None
    if kind is None or not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise SourceColumnError(f"{column} of source {parts.name} is {kind or 'not there'}", "it must be a timestamp")
    return "tz" if pa.types.is_timestamp(kind) and kind.tz else "naive"


def find_matches(parts: ParquetDataset, asked: BucketScan, probes: pa.Table, limits: Limits) -> tuple[Ints, Ints]:
    """Return (place, event) of each probe's row, -1 and 0 where it has none.

    ``probes`` holds i (0 … n-1), the keys k0 …, and o, the instant in microseconds, UTC; ``parts`` are the files that
    ``asked`` reads.
    """
    place, event = np.full(len(probes), -1, dtype=np.int64), np.zeros(len(probes), dtype=np.int64)
    if not len(probes) or not asked.files:
        return place, event
    codes = KeyCodes.of(_key_columns(probes))
    if len(probes) >= PROBES_A_KEY_MERGED * len(codes) or parts.rows <= ROWS_MERGED:
        code = codes.code(_key_columns(probes))
        observed = probes.column("o").to_numpy()
        for bucket, count in buckets(0, parts.rows, limits):
            mine = np.flatnonzero((code % count == bucket) & (code >= 0))
            known = _known(parts, asked, codes, (bucket, count), limits.threads)
            best = latest_known(known, code[mine] // count, observed[mine], limits.threads)
            has = mine[best >= 0]
            place[has], event[has] = known.position[best[best >= 0]], known.event[best[best >= 0]]
        return place, event
    del codes
    with session(limits) as connection:
        connection.register("probes", probes)
        for each in buckets(len(probes), 0, limits):
            i, found, at = _arrays(connection, pairs_sql(asked, each), 3)
            place[i], event[i] = found, at
    return place, event


def _key_columns(probes: pa.Table) -> list[pa.ChunkedArray]:
    return [probes.column(name) for name in probes.column_names if name.startswith("k")]


def buckets(probes: int, rows: int, limits: Limits) -> list[tuple[int, int]]:
    """Return (bucket, number of buckets) pairs such that the arrays of one fit a quarter of the memory."""
    wanted = probes * _BYTES_A_PROBE + rows * _BYTES_A_ROW
    count = max(-(-wanted // (limits.memory_mb * (1 << 20) // 4)), 1)
    return [(bucket, count) for bucket in range(count)]


def _known(
    parts: ParquetDataset, asked: BucketScan, codes: KeyCodes, bucket: tuple[int, int], threads: int
) -> KnownRows:
    """Read the rows of the window whose key is in ``codes`` and in the bucket."""
    work: list[list[tuple[int, int]]] = [[]]
    size, enough = 0, min(max(-(-parts.rows // threads), 1), _ROWS_CODED)
    for number, part in enumerate(parts.fragments):
        for group in _groups(part, asked):
            if size >= enough:
                work, size = [*work, []], 0
            work[-1].append((number, group))
            size += part.groups[group]
    with ThreadPoolExecutor(threads) as pool:
        read = list(pool.map(lambda some: _coded(parts, asked, codes, bucket, some), work))
    return KnownRows(*(np.concatenate(arrays) for arrays in zip(*read, strict=True)))


def _groups(part: ParquetFragment, asked: BucketScan) -> list[int]:
    """Return the row groups that may hold a row of the window."""
    bounds = part.group_bounds_us(asked.event)
    least = asked.event_from_us
    return [
        group
        for group in range(len(part.groups))
        if not bounds or (bounds[group][0] <= asked.until_us and (least is None or bounds[group][1] >= least))
    ]


def _coded(
    parts: ParquetDataset,
    asked: BucketScan,
    codes: KeyCodes,
    bucket: tuple[int, int],
    groups: Sequence[tuple[int, int]],
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return (code, event, created, place) of the rows of some row groups, given as (part, group)."""
    names = list(dict.fromkeys([*(column for column, _ in asked.keys), asked.event, *filter(None, [asked.created])]))
    schema = pa.schema([parts.schema.field(name) for name in names])
    tables, places = [schema.empty_table()], [np.zeros(0, dtype=np.int64)]
    for number in dict.fromkeys(number for number, _ in groups):
        mine = [group for part, group in groups if part == number]
        tables.append(parts.read(parts.fragments[number], mine, schema))
        starts = np.cumsum([0, *parts.fragments[number].groups]) + number * parts.stride
        places += [np.arange(starts[group], starts[group + 1], dtype=np.int64) for group in mine]
    table = pa.concat_tables(tables)
    keys = [
        table.column(column).cast(known.type) for (column, _), known in zip(asked.keys, codes.values, strict=False)
    ] or [pa.chunked_array([np.zeros(len(table), dtype=np.int64)])]
    code = codes.code(keys)
    event, has_event = _micros(table.column(asked.event))
    created, has_created = _micros(table.column(asked.created)) if asked.created else (np.zeros_like(event), True)
    # Filtered here, since with few probes most rows are ones that no probe can know.
    wanted = (code >= 0) & has_event & has_created & (event <= asked.until_us)
    if asked.event_from_us is not None:
        wanted &= event >= asked.event_from_us
    if asked.known_by_us is not None:
        wanted &= created <= asked.known_by_us
    if bucket[1] > 1:
        wanted &= code % bucket[1] == bucket[0]
        code //= bucket[1]
    place = np.concatenate(places)
    if wanted.all():
        return code, event, created, place
    return code[wanted], event[wanted], created[wanted], place[wanted]


def _micros(column: pa.ChunkedArray) -> tuple[Ints, npt.NDArray[np.bool_] | bool]:
    """Return instants in microseconds since 1970, UTC, and which of them are not null."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    micros = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    if not micros.null_count:
        return micros.to_numpy(), True
    return pc.fill_null(micros, 0).to_numpy(), np.asarray(micros.is_valid().to_numpy(), dtype=np.bool_)


def latest(connection: duckdb.DuckDBPyConnection, asked: BucketScan) -> Ints:
    """Return the place of the greatest row of each key, ascending."""
    if not asked.files:
        return np.zeros(0, dtype=np.int64)
    return np.sort(_arrays(connection, latest_sql(asked), 2)[0])


def _arrays(connection: duckdb.DuckDBPyConnection, sql: str, columns: int) -> list[Ints]:
    table = connection.execute(sql).fetch_arrow_table()
    return [np.asarray(table.column(number).to_numpy(), dtype=np.int64) for number in range(columns)]
