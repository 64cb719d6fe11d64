"""What is said of an event that was set aside: field and fault, never the value."""

import pyarrow as pa
import pytest

from feature_repo.events import EVENT_SCHEMA, LINE_BYTES_MAX, RejectionReason, parse_lines, validate_events
from feature_repo.raw.events.event_faults import event_fault
from tests.support.event_rows import NOW, at, event, table

LINES = [
    (
        b'{"schema_version":1,"occurred_at":"2024-05-01T10:00:00"}',
        "occurred_at: no time zone: write 2024-05-01T10:00:00Z",
    ),
    (b'{"schema_version":1,"data_mb":null,"days_late":"7"}', "days_late: text where a whole number belongs"),
    (b'{"schema_version":1,"data_mb":1.5}', "data_mb: a number with a fraction where a whole number belongs"),
    (b'{"schema_version":1,"data_mb":9223372036854775808}', "data_mb: a number beyond int64"),
    (b'{"schema_version":1,"retracted":0}', "retracted: a whole number where true or false belongs"),
    (b'{"schema_version":1,"customer_id":7}', "customer_id: a whole number where text belongs"),
    (b'{"schema_version":1,"customer_id":{"7590-VHVEG":1}}', "customer_id: an object where text belongs"),
    (b'{"schema_version":1,"event_id":"\\ud800"}', "event_id: half a surrogate pair is no text"),
    (b'{"schema_version":1,"7590-VHVEG":1}', "field 2 of the object"),
    (b'{"schema_version":1,"customerId":"a"}', "field 2 of the object: customer_id in another spelling?"),
    (b'{"schema_version":1,"data_mb":1,"data_mb":1}', "data_mb"),
    (b'{"event_id":"a"}', "schema_version: missing, write 1"),
    (b'{"schema_version":"1"}', "schema_version: not 1"),
    (b'{"schema_version":1,"data_mb":NaN}', "NaN or Infinity: write null"),
    (b"{'schema_version':1}", "single quotes where JSON has double ones"),
    (b'{"schema_version":1', "an object that does not end in its line"),
    (b"[", "JSON over several lines: write one object a line"),
    (b'{"schema_version":1},', "JSON over several lines: write one object a line"),
    (b'{"a":"\xff"}', "no UTF-8"),
    (b'{"a":1,}', "text that is no JSON"),
    (b"event_id;type", "text that is no JSON"),
    (b'{"schema_version":01}', "text that is no JSON"),
    (b'{"a":' + b"9" * 5000 + b"}", "text that is no JSON"),
    (b'{\0"\0a\0', "NUL bytes: a damaged copy, or UTF-16 without its byte-order mark"),
    (b'[{"schema_version":1}]', "a JSON array: write one object a line"),
    (b"7590", ""),
    (b"x" * (LINE_BYTES_MAX + 1), ""),
]


@pytest.mark.parametrize(("line", "fault"), LINES, ids=lambda value: str(value)[:60])
def test_of_a_line(line, fault):
    (row,) = parse_lines(line + b"\n").to_pylist()
    assert event_fault(row["refusal"], row, row["content"]) == fault


EVENTS = [
    (event(event_id=None), "event_id: missing"),
    (event(event_id=""), "event_id: empty"),
    (event(event_id="x" * 65), "event_id: longer than 64 characters"),
    (event(type="Plan-Change"), "type: plan_change in another spelling?"),
    (event(type="7590-VHVEG"), "type: another word"),
    (event(type=None), "type: missing"),
    (event(customer_id=" 7590-VHVEG"), "customer_id: blanks around it"),
    (event(customer_id=None), "customer_id: missing"),
    (event(arrived_at=None), "arrived_at"),
    (event(occurred_at=at("1970-01-20")), "occurred_at"),
    (event(revision=-1), "revision"),
    (event("payment", amount_cents=10**13), "amount_cents"),
    (event("payment", amount_cents=None, days_late=None), "amount_cents, days_late"),
    (event("login", data_mb=1), "data_mb of login"),
    (event("ticket_opened", ticket_id=""), "ticket_id: empty"),
    (event(occurred_at=at("2100-01-01")), ""),
]


@pytest.mark.parametrize(("row", "fault"), EVENTS, ids=lambda value: value if isinstance(value, str) else "")
def test_of_an_event(row, fault):
    (judged,) = validate_events(table(row), NOW, 300).to_pylist()
    assert event_fault(judged["reason"], judged, None) == fault


def test_every_reason_of_one_event_has_a_fault_or_says_all_itself():
    """Whatever the reason: nothing is raised for a row without any value."""
    (row,) = pa.Table.from_pylist([{}], schema=EVENT_SCHEMA).to_pylist()
    for reason in RejectionReason:
        assert isinstance(event_fault(reason, row, None), str)
