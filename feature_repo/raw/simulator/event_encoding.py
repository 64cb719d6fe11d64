"""Encoding of event arrays: an Arrow table in the schema of events, and the same as JSON lines."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.contract import CUSTOMER
from feature_repo.events import EVENT_SCHEMA, EVENT_SCHEMA_VERSION, PAYLOAD
from feature_repo.raw.simulator.event_arrays import TYPES, EventArrays
from feature_repo.raw.simulator.ids import opaque_ids

ENCODED: Final = pa.schema(
    [
        (field.name, pa.dictionary(pa.int32(), pa.string())) if field.name in {"type", CUSTOMER} else field
        for field in EVENT_SCHEMA
    ]
)
"""The schema of events with its two repetitive columns dictionary-encoded; in Parquet it reads as the plain schema."""
_EVENT_SALT: Final = 0x5EED_0001
_TICKET_SALT: Final = 0x71C3_E700
_DAY_S: Final = 86_400
_NUMBERS: Final = {
    kind: [name for name in names if EVENT_SCHEMA.field(name).type == pa.int64()] for kind, names in PAYLOAD.items()
}


def event_table(told: EventArrays, customers: NDArray[np.bytes_], ticket_from: int, seed: int) -> pa.Table:
    """Return events as a table in :data:`ENCODED`, in the same order.

    Parameters
    ----------
    told
        Delivered events of one block.
    customers
        ``(block,)`` ids by row.
    ticket_from
        Added to the block's ticket numbers.
    seed
        The world's seed: other seeds give other ids.
    """
    names = pa.array(customers.astype("U"), pa.string())
    ticketed = np.flatnonzero(told.ticket)
    place = np.full(len(told), -1)
    place[ticketed] = np.arange(len(ticketed))
    tickets = opaque_ids((told.ticket[ticketed] + ticket_from).astype(np.uint64), _TICKET_SALT + seed)
    columns: dict[str, Any] = {
        "event_id": opaque_ids(told.key, _EVENT_SALT + seed),
        "revision": pa.array(told.revision.astype(np.int64)),
        "retracted": pa.array(told.retracted),
        "type": pa.DictionaryArray.from_arrays(pa.array(told.kind.astype(np.int32)), pa.array(TYPES)),
        CUSTOMER: pa.DictionaryArray.from_arrays(pa.array(told.row.astype(np.int32)), names),
        "occurred_at": _instants(told.occurred_s),
        "arrived_at": _instants(told.arrived_s),
        "ticket_id": tickets.take(pa.array(place, mask=place < 0)),
    }
    for kind, names in _NUMBERS.items():
        absent = told.kind != TYPES.index(kind)
        for name, values in zip(names, (told.first, told.second), strict=False):
            columns[name] = pa.array(values, mask=absent)
    return pa.table([columns[name] for name in EVENT_SCHEMA.names], schema=ENCODED)


def json_lines(events: pa.Table) -> memoryview:
    r"""Return the events as JSON lines in the same order: flat objects without nulls, each ended by ``\n``."""
    events = events.cast(EVENT_SCHEMA)
    kinds = events["type"].combine_chunks()
    parts, rows = [], []
    for kind, names in PAYLOAD.items():
        found = np.flatnonzero(pc.equal(kinds, kind).to_numpy(zero_copy_only=False))
        some = events.take(pa.array(found))
        parts.append(_lines(some, kind, names))
        rows.append(found)
    order = np.empty(len(events), np.int64)
    order[np.concatenate(rows)] = np.arange(len(events))
    lines = pa.concat_arrays(parts).take(pa.array(order))
    _, offsets, text = lines.buffers()
    ends = np.frombuffer(offsets, np.int32, len(lines) + 1, lines.offset * 4)
    return memoryview(text)[int(ends[0]) : int(ends[-1])]


def _lines(events: pa.Table, kind: str, names: tuple[str, ...]) -> pa.Array:
    bits: list[Any] = [f'{{"schema_version":{EVENT_SCHEMA_VERSION},"event_id":"', events["event_id"], '","revision":']
    bits += [events["revision"].cast(pa.string()), ',"retracted":', events["retracted"].cast(pa.string())]
    bits += [f',"type":"{kind}","{CUSTOMER}":"', events[CUSTOMER]]
    bits += ['","occurred_at":', _quoted(events["occurred_at"]), ',"arrived_at":', _quoted(events["arrived_at"])]
    for name in names:
        text = EVENT_SCHEMA.field(name).type == pa.string()
        bits += [f',"{name}":' + '"' * text, events[name].cast(pa.string())]
        bits += ['"'] if text else []
    joined = pc.binary_join_element_wise(*bits, "}\n", "")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _quoted(instants: pa.ChunkedArray) -> pa.Array:
    """Return whole seconds as ``"2025-01-31T06:00:00Z"`` with the quotes."""
    seconds = instants.cast(pa.int64()).to_numpy() // 1_000_000
    day = seconds // _DAY_S
    first = int(day.min()) if len(day) else 0
    days = pa.array(
        [f'"{datetime.fromtimestamp(d * _DAY_S, UTC):%Y-%m-%d}' for d in range(first, int(day.max(initial=first)) + 1)]
    )
    return pc.binary_join_element_wise(days.take(pa.array(day - first)), _clock().take(pa.array(seconds % _DAY_S)), "")


@cache
def _clock() -> pa.Array:
    return pa.array([f'T{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}Z"' for s in range(_DAY_S)])


def _instants(seconds: NDArray[np.int64]) -> pa.Array:
    return pa.array(seconds * 1_000_000).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
