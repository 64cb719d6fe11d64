import json

import numpy as np
import pyarrow as pa

from feature_repo.events import EVENT_SCHEMA, parse_lines
from feature_repo.raw.simulator.event_arrays import (
    CHANGE,
    CLOSED,
    LOGIN,
    OPENED,
    PAYMENT,
    USAGE_DAY,
    EventArrays,
    event_arrays,
)
from feature_repo.raw.simulator.event_encoding import event_table, json_lines
from feature_repo.raw.simulator.ids import customer_ids

IDS = customer_ids(np.arange(3), 7)


def one_of_each():
    row, second = np.array([0, 2]), np.array([1_738_303_200, 1_738_389_599])
    pair = (np.array([1, 2]), np.array([3, 4]))
    parts = [event_arrays(row, kind, second, *pair) for kind in (USAGE_DAY, PAYMENT, CHANGE)]
    parts += [
        event_arrays(row, LOGIN, second),
        event_arrays(row, OPENED, second),
        event_arrays(row, CLOSED, second, pair[0]),
    ]
    for ticketed in parts[-2:]:
        ticketed.ticket = np.array([1, 2])
    told = EventArrays.concat(parts)
    told.arrived_s = told.occurred_s + 61
    told.key = np.arange(len(told), dtype=np.uint64)
    return told


def test_the_lines_say_what_the_table_says():
    table = event_table(one_of_each(), IDS, 0, 7)
    assert parse_lines(bytes(json_lines(table))).select(EVENT_SCHEMA.names).equals(table.cast(EVENT_SCHEMA))


def test_a_line_holds_what_its_type_has_and_nothing_else():
    lines = [json.loads(line) for line in bytes(json_lines(event_table(one_of_each(), IDS, 0, 7))).splitlines()]
    common = {"schema_version", "event_id", "revision", "retracted", "type", "customer_id", "occurred_at", "arrived_at"}
    told = {line["type"]: {key: line[key] for key in line.keys() - common} for line in lines[::2]}
    ticket = told["ticket_opened"]["ticket_id"]
    assert told == {
        "usage_day": {"data_mb": 1, "voice_minutes": 3},
        "payment": {"amount_cents": 1, "days_late": 3},
        "plan_change": {"price_before_cents": 1, "price_after_cents": 3},
        "login": {},
        "ticket_opened": {"ticket_id": ticket},
        "ticket_closed": {"ticket_id": ticket, "resolution_hours": 1},
    }
    assert lines[0]["occurred_at"] == "2025-01-31T06:00:00Z"
    assert lines[0]["arrived_at"] == "2025-01-31T06:01:01Z"


def test_no_events_no_lines():
    empty = event_table(one_of_each().take(np.zeros(12, bool)), IDS, 0, 7)
    assert isinstance(empty, pa.Table)
    assert bytes(json_lines(empty)) == b""
