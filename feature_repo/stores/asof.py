"""The point-in-time join in SQL and arithmetic. Pure: texts and arrays in, texts and arrays out.

A stored row is *known* from ``max(event, created)`` on: earlier it had not happened, or had not arrived. Among the
rows known at an instant O the join wants the greatest ``(event, created, place)``, place being the file's name and
then the row in it. Expiry needs no part in the search: if the greatest has expired, so has every other.

Two ways give the same row:

- :func:`pairs_sql` lets DuckDB meet each probe with all earlier rows of its key and keep the greatest. The three
  numbers are packed into one 127-bit integer where their ranges allow, since comparing structs costs a third more.
- :func:`latest_known` sorts the rows of a key by when they were known, takes the running maximum of their rank, and
  looks each probe up by bisection. Its cost does not grow with the probes a key, and it needs no DuckDB.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_repo.files.duckdb_session import literal, quoted

Ints = npt.NDArray[np.int64]
HUGEINT_BITS = 126


@dataclass(frozen=True)
class Scan:
    """What is read of one source: files, key columns, times and the window of event times.

    ``place`` of a row is ``file_index * stride + file_row_number``. Times are in microseconds since 1970, UTC;
    ``event_from_us`` None means that no view limits the age; ``known_by_us`` None that rows count whenever they
    arrived. the bounds are from the files' statistics, None where a file has none.
    A row without an event or a created timestamp is never known.
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
        """Return the SELECT of (k0 …, event, created, place); created is 0 where the source has no such column."""
        event = quoted(self.event)
        keys = [f"CAST({quoted(column)} AS {kind})" for column, kind in self.keys] or ["0"]
        created = f"epoch_us({quoted(self.created)})" if self.created else "0"
        columns = [f"{key} AS k{number}" for number, key in enumerate(keys)]
        where = self._window()
        if bucket[1] > 1:
            where.append(_bucket(keys, bucket))
        files = ", ".join(literal(file) for file in self.files)
        return (
            f"SELECT {', '.join(columns)}, epoch_us({event}) AS event, {created} AS created, "  # noqa: S608 - all quoted
            f"CAST(file_index AS BIGINT) * {self.stride} + file_row_number AS place "
            f"FROM read_parquet([{files}], union_by_name = {self.by_name}, hive_partitioning = false) "
            f"WHERE {' AND '.join(where or ['true'])}"
        )

    def _window(self) -> list[str]:
        # The bare column stands against a constant: only so can row groups be skipped by their statistics. What
        # the statistics already promise is not asked again: a filter costs a tenth of the query.
        event, created = quoted(self.event), quoted(self.created or "")
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
        """Return (bits of created, bits of place) if event, created and place fit one HUGEINT."""
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


def _probes(scan: Scan, bucket: tuple[int, int]) -> str:
    keys = _keys(scan)
    where = f" WHERE {_bucket(keys, bucket)}" if bucket[1] > 1 else ""
    return f"SELECT * FROM probes{where}"  # noqa: S608 - nothing from outside


def _keys(scan: Scan) -> list[str]:
    return [f"k{number}" for number in range(max(len(scan.keys), 1))]


def _greatest(scan: Scan) -> tuple[str, str, str]:
    """Return the aggregate, and what takes place and event out of it again."""
    bits = scan.packed()
    if bits is None:
        # A struct with a null in it is a value, so rows that are never known must be kept out of it.
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


def pairs_sql(scan: Scan, bucket: tuple[int, int] = (0, 1)) -> str:
    """Return the query of (i, place, event): the row of each probe that has one. ``probes`` holds i, k0 …, o."""
    aggregate, place, event = _greatest(scan)
    same = " AND ".join(f"f.{key} = p.{key}" for key in _keys(scan))
    known = "f.event <= p.o" + (" AND f.created <= p.o" if scan.created else "")
    return (
        f"SELECT i, {place} AS place, {event} AS event FROM ("  # noqa: S608 - all quoted
        f"SELECT p.i, {aggregate} AS best FROM ({scan.sql(bucket)}) f JOIN ({_probes(scan, bucket)}) p "
        f"ON {same} AND {known} GROUP BY p.i)"
    )


def latest_sql(scan: Scan) -> str:
    """Return the query of (place, event): the greatest row of each key in the window."""
    aggregate, place, event = _greatest(scan)
    whole = " AND ".join(f"{key} IS NOT NULL" for key in _keys(scan))
    return (
        f"SELECT {place} AS place, {event} AS event FROM ("  # noqa: S608 - all quoted
        f"SELECT {aggregate} AS best FROM ({scan.sql()}) WHERE {whole} GROUP BY {', '.join(_keys(scan))}) "
        "WHERE best IS NOT NULL"
    )


@dataclass(frozen=True)
class Known:
    """Stored rows: ``code`` of the key, event, created and place, n each, in any order."""

    code: Ints
    event: Ints
    created: Ints
    place: Ints

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> Known:
        return Known(self.code[chosen], self.event[chosen], self.created[chosen], self.place[chosen])


def latest_known(rows: Known, code: Ints, observed: Ints, threads: int = 1) -> Ints:
    """Return for each probe (code, observed in microseconds) the index of its row in ``rows``, or -1.

    Halves of the codes are worked on by ``threads`` threads: numpy lets go of the interpreter while it sorts.
    """
    if threads <= 1 or len(rows.code) < 1 << 16:
        return _latest_known(rows, code, observed)
    found = np.full(len(code), -1, dtype=np.int64)

    def work(part: int) -> None:
        stored, asked = np.flatnonzero(rows.code % threads == part), np.flatnonzero(code % threads == part)
        taken = Known(rows.code[stored] // threads, rows.event[stored], rows.created[stored], rows.place[stored])
        place = _latest_known(taken, code[asked] // threads, observed[asked])
        found[asked] = np.where(place >= 0, stored[place] if len(stored) else -1, -1)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return found


def _latest_known(rows: Known, code: Ints, observed: Ints) -> Ints:
    if not len(rows.code) or not len(code):
        return np.full(len(code), -1, dtype=np.int64)
    known_from = np.maximum(rows.event, rows.created)
    stored, asked = _sortable(rows.code, known_from, code, observed)
    order = np.argsort(stored)
    at = np.searchsorted(stored[order], asked, side="right") - 1
    best = order if _in_order(rows, order) else _running_best(rows, order)
    found: Ints = best[at]  # at -1 this is some row: its key is looked at next
    return np.where((at >= 0) & (rows.code[found] == code), found, -1)


def _sortable(code: Ints, known_from: Ints, asked_code: Ints, observed: Ints) -> tuple[Ints, Ints]:
    """Return (code, time) of rows and of probes as one integer each, comparable with each other."""
    least = int(known_from.min())
    bits = (int(known_from.max()) - least + 1).bit_length()
    codes = max(int(code.max()), int(asked_code.max()))
    if codes.bit_length() + bits > 63:  # noqa: PLR2004 - the bits of a non-negative int64
        # The times are replaced by their ranks, which are far fewer.
        instants, known_from = np.unique(known_from, return_inverse=True)
        observed = np.searchsorted(instants, observed, side="right") - 1
        least, bits = 0, (len(instants) + 1).bit_length()
    # Time 0 is kept for "before everything", so that no probe reaches into the key before it.
    stored = (code << bits) | (known_from - least + 1)
    clipped = np.clip(observed - least + 1, 0, (1 << bits) - 1)
    return stored, (asked_code << bits) | clipped


def _in_order(rows: Known, order: Ints) -> bool:
    """Whether, key by key, what was known later is also the greater: then the last known row is the wanted one."""
    code, event = rows.code[order], rows.event[order]
    same = code[1:] == code[:-1]
    step = event[1:] - event[:-1]
    if bool((same & (step < 0)).any()):
        return False
    tied = np.flatnonzero(same & (step == 0))
    before, after = order[tied], order[tied + 1]
    later = rows.created[after] - rows.created[before]
    return bool(((later > 0) | ((later == 0) & (rows.place[after] > rows.place[before]))).all())


def _running_best(rows: Known, order: Ints) -> Ints:
    """Return, for each row in ``order``, which of those up to it in its key is the greatest."""
    by_rank = np.lexsort((rows.place, rows.created, rows.event, rows.code))
    rank = np.empty(len(by_rank), dtype=np.int64)
    rank[by_rank] = np.arange(len(by_rank))
    # A greater code has only greater ranks, so that the maximum never carries over from one key to the next.
    best: Ints = by_rank[np.maximum.accumulate(rank[order])]
    return best
