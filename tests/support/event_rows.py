"""Events and known customers for tests: one row with what matters spelled out, the rest usual."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.events import EVENT_SCHEMA, PAYLOAD
from feature_repo.raw.snapshots.publication import RawFile, publish_snapshot
from feature_repo.raw.snapshots.telco_csv import normalise
from tests.support.single_extract import simulate_snapshot

NOW = datetime(2024, 6, 1, tzinfo=UTC)
_NUMBERS = itertools.count(1)


def at(text):
    """Read 2024-05-01 or 2024-05-01T12:00 as a UTC instant."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def event(kind="login", customer_id="A-1", occurred="2024-05-01T10:00", **given):
    """Give a row of an event of this type; its payload is 1 (ticket t1) where not given."""
    occurred_at = occurred if isinstance(occurred, datetime) else at(occurred)
    usual = {name: "t1" if name == "ticket_id" else 1 for name in PAYLOAD.get(kind, ())}
    row = {
        "event_id": f"e{next(_NUMBERS)}",
        "revision": 0,
        "retracted": False,
        "type": kind,
        "customer_id": customer_id,
        "occurred_at": occurred_at,
        "arrived_at": occurred_at + timedelta(hours=1),
        **usual,
        **given,
    }
    return {name: row.get(name) for name in EVENT_SCHEMA.names} | {
        k: v for k, v in row.items() if k not in EVENT_SCHEMA.names
    }


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=EVENT_SCHEMA)


def line(row, **changed):
    """Spell a row as a JSON line."""
    told = {"schema_version": 1, **{name: value for name, value in row.items() if value is not None}, **changed}
    return json.dumps(told, default=lambda instant: instant.isoformat().replace("+00:00", "Z")).encode() + b"\n"


def write_lines(path, *rows):
    path.write_bytes(b"".join(row if isinstance(row, bytes) else line(row) for row in rows))
    return path


def write_parquet(path, *rows):
    pq.write_table(table(*rows), path)
    return path


def publish_customers(home, *ids, as_of=date(2024, 3, 1), seed=1, ingested_at=NOW):
    """Publish a snapshot of just these customers, without the gate."""
    rows = simulate_snapshot(len(ids), seed).assign(customerID=list(ids))
    instant = datetime(as_of.year, as_of.month, as_of.day, tzinfo=UTC)
    publish_snapshot(
        home,
        as_of,
        normalise(rows),
        rows.head(0),
        raw=RawFile(home / "none.csv", "0" * 52 + as_of.isoformat().replace("-", "") + "0000", 1, "none.csv"),
        time="observed",
        event_at=instant,
        created_at=instant,
        ingested_at=ingested_at,
        replace=True,
        extra_files={},
    )
