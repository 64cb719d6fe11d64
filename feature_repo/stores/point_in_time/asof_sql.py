"""SQL of the point-in-time join. Pure.

A stored row is *known* from ``max(event, created)`` on: earlier it had not happened, or had not arrived. Among the rows
known at an instant O the join selects the greatest ``(event, created, place)``, place being the file's name and then
the row in it. Expiry needs no part in the search: if the greatest row has expired, so have all others.

Two methods give the same row:

- :func:`pairs_sql` lets DuckDB join each probe with all earlier rows of its key and keep the greatest. The three
  numbers are packed into one 127-bit integer where their ranges allow, since comparing structs costs a third more.
- :func:`~feature_repo.stores.point_in_time.latest_known_rows.latest_known` sorts the rows of a key by when they were
  known, takes the running maximum of their rank, and looks each probe up by bisection. Its cost does not grow with the
  probes per key, and it needs no DuckDB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feature_repo.files.duckdb_session import quote_name, quote_text

HUGEINT_BITS = 126


@dataclass(frozen=True)
class BucketScan:
    """How one source is read: files, key columns, times and the window of event times.

    ``place`` of a row is ``file_index * stride + file_row_number``. Times are in microseconds since 1970, UTC;
    ``event_from_us`` None means that no view limits the age; ``known_by_us`` None that rows count whenever they
    arrived. The bounds are from the files' statistics, None where a file has none. A row without an event or a created
    timestamp is never known.
    """

    files: tuple[str, ...]
    stride: int
    keys: tuple[tuple[str, str], ...]
    event: str
    event_type: str
    created: str | None
    created_type: str
    event_from_us: int | None
    until_us: int
    known_by_us: int | None
    event_bounds_us: tuple[int, int] | None
    created_bounds_us: tuple[int, int] | None
    by_name: bool = False

    def sql(self, bucket: tuple[int, int] = (0, 1)) -> str:
        """Return the SELECT of (k0 …, event, created, place); created is 0 if the source has no such column."""
        event = quote_name(self.event)
        keys = [f"CAST({quote_name(column)} AS {kind})" for column, kind in self.keys] or ["0"]
        created = f"epoch_us({quote_name(self.created)})" if self.created else "0"
        columns = [f"{key} AS k{number}" for number, key in enumerate(keys)]
        where = self._window()
        if bucket[1] > 1:
            where.append(_bucket(keys, bucket))
        files = ", ".join(quote_text(file) for file in self.files)
        return (
            f"SELECT {', '.join(columns)}, epoch_us({event}) AS event, {created} AS created, "  # noqa: S608 - all quoted
            f"CAST(file_index AS BIGINT) * {self.stride} + file_row_number AS place "
            f"FROM read_parquet([{files}], union_by_name = {self.by_name}, hive_partitioning = false) "
            f"WHERE {' AND '.join(where or ['true'])}"
        )

    def _window(self) -> list[str]:
        # The bare column is compared with a constant: only then can row groups be skipped by their statistics. A
        # condition that the statistics already guarantee is left out: a filter costs a tenth of the query.
        event, created = quote_name(self.event), quote_name(self.created or "")
        least, most = self.event_bounds_us or (None, None)
        where = []
        if most is None or most > self.until_us:
            where.append(f"{event} <= {_instant(self.until_us, self.event_type)}")
        if self.event_from_us is not None and (least is None or least < self.event_from_us):
            where.append(f"{event} >= {_instant(self.event_from_us, self.event_type)}")
        if self.created and self.known_by_us is not None:
            bounds = self.created_bounds_us
            if bounds is None or bounds[1] > self.known_by_us:
                where.append(f"{created} <= {_instant(self.known_by_us, self.created_type)}")
        return where

    def packed(self) -> tuple[int, int] | None:
        """Return (bits of created, bits of place) if event, created and place fit one HUGEINT, else None."""
        if self.event_bounds_us is None or (self.created and self.created_bounds_us is None):
            return None
        place = (len(self.files) * self.stride).bit_length()
        least, most = self.created_bounds_us or (0, 0)
        created = (most - least).bit_length() if self.created else 0
        event = (self.event_bounds_us[1] - self.event_bounds_us[0]).bit_length()
        return (created, place) if event + created + place <= HUGEINT_BITS else None


def _instant(instant_us: int, kind: str) -> str:
    return f"make_timestamptz({instant_us})" if kind == "tz" else f"make_timestamp({instant_us})"


def _bucket(keys: Sequence[str], bucket: tuple[int, int]) -> str:
    return f"hash({', '.join(keys)}) % {bucket[1]} = {bucket[0]}"


def _probes(scan: BucketScan, bucket: tuple[int, int]) -> str:
    keys = _keys(scan)
    where = f" WHERE {_bucket(keys, bucket)}" if bucket[1] > 1 else ""
    return f"SELECT * FROM probes{where}"  # noqa: S608 - nothing from outside


def _keys(scan: BucketScan) -> list[str]:
    return [f"k{number}" for number in range(max(len(scan.keys), 1))]


def _greatest(scan: BucketScan) -> tuple[str, str, str]:
    """Return the aggregate, and the expressions that extract place and event from it."""
    bits = scan.packed()
    if bits is None:
        # A struct with a null in it is not null, so rows that are never known must be filtered out.
        whole = " FILTER (event IS NOT NULL AND created IS NOT NULL)"
        return (
            f"max(struct_pack(event := event, created := created, place := place)){whole}",
            "best.place",
            "best.event",
        )
    created_bits, place_bits = bits
    event_least = scan.event_bounds_us[0] if scan.event_bounds_us else 0
    event = f"((event - {event_least})::HUGEINT << {created_bits + place_bits})"
    created_least = scan.created_bounds_us[0] if scan.created_bounds_us else 0
    created = f"((created - {created_least})::HUGEINT << {place_bits})" if scan.created else "0"
    return (
        f"max({event} + {created} + place)",
        f"(best & ((1::HUGEINT << {place_bits}) - 1))::BIGINT",
        f"(best >> {created_bits + place_bits})::BIGINT + {event_least}",
    )


def pairs_sql(scan: BucketScan, bucket: tuple[int, int] = (0, 1)) -> str:
    """Return the query of (i, place, event): the row of each probe that has one.

    The table ``probes`` holds i, k0 …, o.
    """
    aggregate, place, event = _greatest(scan)
    same = " AND ".join(f"f.{key} = p.{key}" for key in _keys(scan))
    known = "f.event <= p.o" + (" AND f.created <= p.o" if scan.created else "")
    return (
        f"SELECT i, {place} AS place, {event} AS event FROM ("  # noqa: S608 - all quoted
        f"SELECT p.i, {aggregate} AS best FROM ({scan.sql(bucket)}) f JOIN ({_probes(scan, bucket)}) p "
        f"ON {same} AND {known} GROUP BY p.i)"
    )


def latest_sql(scan: BucketScan) -> str:
    """Return the query of (place, event): the greatest row of each key in the window."""
    aggregate, place, event = _greatest(scan)
    whole = " AND ".join(f"{key} IS NOT NULL" for key in _keys(scan))
    return (
        f"SELECT {place} AS place, {event} AS event FROM ("  # noqa: S608 - all quoted
        f"SELECT {aggregate} AS best FROM ({scan.sql()}) WHERE {whole} GROUP BY {', '.join(_keys(scan))}) "
        "WHERE best IS NOT NULL"
    )
