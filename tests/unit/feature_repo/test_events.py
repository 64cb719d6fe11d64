"""What an event is, and every reason why one is set aside."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from configs.settings import PROJECT_ROOT
from feature_repo.events import (
    EVENT_SCHEMA,
    LINE_BYTES_MAX,
    PAYLOAD,
    VALUE_MAX,
    RejectionReason,
    parse_lines,
    validate_events,
)
from tests.support.event_rows import NOW, at, event, line, table

SKEW_S = 300
COMPARED = {
    RejectionReason.DUPLICATE,
    RejectionReason.CONFLICTING_DUPLICATE,
    RejectionReason.CONFLICTING_REVISION,
    RejectionReason.UNKNOWN_CUSTOMER,
}
"""These are found by comparing events: tests of the deliveries."""


def reason_of(row):
    return validate_events(table(row), NOW, SKEW_S)["reason"].to_pylist()[0]


GOOD = line(event())
LINES = [
    (b'{"schema_version":1,"event_id":"' + b"x" * LINE_BYTES_MAX + b'"}', RejectionReason.OVERSIZED_LINE),
    (b'{"schema_version":1', RejectionReason.MALFORMED_JSON),
    (b"{'schema_version':1}", RejectionReason.MALFORMED_JSON),
    (b'{"schema_version":1,"data_mb":NaN}', RejectionReason.MALFORMED_JSON),
    (b'{"schema_version":1,"data_mb":01}', RejectionReason.MALFORMED_JSON),
    (b'{"schema_version":1} {"schema_version":1}', RejectionReason.MALFORMED_JSON),
    (b'{"schema_version":1,"event_id":"\xff"}', RejectionReason.MALFORMED_JSON),
    (b'{"schema_version":1}\xef\xbb\xbf', RejectionReason.MALFORMED_JSON),
    (b"[" * 60_000, RejectionReason.MALFORMED_JSON),
    (b"[]", RejectionReason.NOT_AN_OBJECT),
    (b'"login"', RejectionReason.NOT_AN_OBJECT),
    (b'[["schema_version",1]]', RejectionReason.NOT_AN_OBJECT),
    (b"null", RejectionReason.NOT_AN_OBJECT),
    (b'{"schema_version":1,"data_mb":1,"data_mb":1}', RejectionReason.DUPLICATE_KEY),
    (b'{"schema_version":1,"data_mb":null,"data_mb":1}', RejectionReason.DUPLICATE_KEY),
    (b'{"schema_version":1,"schema_version":1}', RejectionReason.DUPLICATE_KEY),
    (b"{}", RejectionReason.UNKNOWN_SCHEMA_VERSION),
    (b'{"schema_version":2}', RejectionReason.UNKNOWN_SCHEMA_VERSION),
    (b'{"schema_version":"1"}', RejectionReason.UNKNOWN_SCHEMA_VERSION),
    (b'{"schema_version":true}', RejectionReason.UNKNOWN_SCHEMA_VERSION),
    (b'{"schema_version":1.0}', RejectionReason.UNKNOWN_SCHEMA_VERSION),
    (b'{"schema_version":1,"colour":"red"}', RejectionReason.UNKNOWN_FIELD),
    (b'{"schema_version":1,"data_mb":1.5}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"data_mb":"1"}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"data_mb":true}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"data_mb":9223372036854775808}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"data_mb":[1]}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"retracted":0}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"customer_id":7}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"event_id":"\\ud800"}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"occurred_at":171455760}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"occurred_at":"2024-05-01"}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"occurred_at":"2024-05-01T10:00:00"}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"occurred_at":"2024-05-01T10:00:00+25:00"}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"occurred_at":"2024-02-30T10:00:00Z"}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"occurred_at":"2024-05-01T24:00:00Z"}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"occurred_at":"2024-05-01T10:00:00Z\\n"}', RejectionReason.WRONG_TYPE),
    (b'{"schema_version":1,"occurred_at":"2024-05-01T10:00:00.1234567890Z"}', RejectionReason.WRONG_TYPE),
]


@pytest.mark.parametrize(("bad", "reason"), LINES, ids=lambda value: str(value)[:70])
def test_a_line_that_is_no_event_says_why_and_is_kept(bad, reason):
    read = parse_lines(GOOD + bad + b"\n" + GOOD)
    assert read["refusal"].to_pylist() == [None, reason, None]
    assert read["content"].to_pylist() == [None, bad[:LINE_BYTES_MAX], None]
    assert read["row"].to_pylist() == [1, 2, 3]
    assert validate_events(read, NOW, SKEW_S)["reason"].to_pylist() == [None, reason, None]


BROKEN = [
    ({"event_id": ""}, RejectionReason.BAD_EVENT_ID),
    ({"event_id": "x" * 65}, RejectionReason.BAD_EVENT_ID),
    ({"kind": "birthday"}, RejectionReason.UNKNOWN_TYPE),
    ({"type": None}, RejectionReason.UNKNOWN_TYPE),
    ({"customer_id": None}, RejectionReason.BAD_CUSTOMER_ID),
    ({"customer_id": ""}, RejectionReason.BAD_CUSTOMER_ID),
    ({"customer_id": "a b"}, RejectionReason.BAD_CUSTOMER_ID),
    ({"customer_id": "a\n"}, RejectionReason.BAD_CUSTOMER_ID),
    ({"customer_id": "x" * 65}, RejectionReason.BAD_CUSTOMER_ID),
    ({"occurred_at": None}, RejectionReason.MISSING_TIME),
    ({"arrived_at": None}, RejectionReason.MISSING_TIME),
    ({"occurred_at": at("1999-12-31T23:59:59")}, RejectionReason.TOO_OLD),
    (
        {"occurred": NOW + timedelta(seconds=SKEW_S, microseconds=1), "arrived_at": NOW},
        RejectionReason.OCCURRED_IN_FUTURE,
    ),
    ({"arrived_at": at("2024-05-01T09:54:59")}, RejectionReason.OCCURRED_IN_FUTURE),
    ({"arrived_at": NOW + timedelta(seconds=SKEW_S, microseconds=1)}, RejectionReason.ARRIVED_IN_FUTURE),
    ({"revision": -1}, RejectionReason.NEGATIVE_VALUE),
    ({"kind": "usage_day", "data_mb": -1}, RejectionReason.NEGATIVE_VALUE),
    ({"kind": "ticket_closed", "resolution_hours": -1}, RejectionReason.NEGATIVE_VALUE),
    ({"kind": "payment", "days_late": -1}, RejectionReason.NEGATIVE_VALUE),
    ({"kind": "payment", "amount_cents": VALUE_MAX + 1}, RejectionReason.VALUE_TOO_LARGE),
    ({"kind": "usage_day", "voice_minutes": None}, RejectionReason.MISSING_PAYLOAD),
    ({"kind": "ticket_opened", "ticket_id": None}, RejectionReason.MISSING_PAYLOAD),
    ({"kind": "login", "data_mb": 0}, RejectionReason.UNEXPECTED_PAYLOAD),
    ({"kind": "ticket_opened", "resolution_hours": 1}, RejectionReason.UNEXPECTED_PAYLOAD),
    ({"kind": "ticket_opened", "ticket_id": ""}, RejectionReason.BAD_TICKET_ID),
    ({"kind": "ticket_opened", "ticket_id": "x" * 65}, RejectionReason.BAD_TICKET_ID),
]


@pytest.mark.parametrize(("given", "reason"), BROKEN, ids=lambda value: str(value)[:60])
def test_an_event_that_breaks_a_rule_says_which_and_is_left_as_it_came(given, reason):
    given = dict(given)
    row = event(given.pop("kind", "login"), **given)
    (found,) = validate_events(table(row), NOW, SKEW_S).to_pylist()
    assert found == {**row, "reason": reason}


def test_every_reason_is_tested_and_has_a_sentence():
    assert {reason for _, reason in LINES} | {reason for _, reason in BROKEN} | COMPARED == set(RejectionReason)
    page = (PROJECT_ROOT / "docs" / "events.md").read_text()
    for reason in RejectionReason:
        assert reason.sentence.endswith(".")
        assert f"| `{reason}` | {reason.sentence} |" in page


@pytest.mark.parametrize("kind", PAYLOAD)
def test_a_whole_event_of_every_type_is_admitted(kind):
    assert reason_of(event(kind)) is None
    assert reason_of(event(kind, customer_id="Žofie-Ünal.7_")) is None, "letters of any script"


def test_a_retraction_may_leave_its_payload_out():
    empty = dict.fromkeys(PAYLOAD["payment"])
    assert reason_of(event("payment", revision=1, retracted=True, **empty)) is None
    assert reason_of(event("payment", revision=1, **empty)) == RejectionReason.MISSING_PAYLOAD


def test_within_the_tolerated_skew_an_event_arrives_when_it_occurs():
    row = event(arrived_at=at("2024-05-01T09:55:00"))
    (found,) = validate_events(table(row), NOW, SKEW_S).to_pylist()
    assert (found["reason"], found["arrived_at"]) == (None, row["occurred_at"])


def test_an_absent_revision_is_the_original_and_absent_retracted_is_false():
    read = validate_events(parse_lines(line(event(revision=None, retracted=None))), NOW, SKEW_S)
    assert (read["revision"].to_pylist(), read["retracted"].to_pylist()) == ([0], [False])
    assert read["reason"].null_count == 1


def test_blank_lines_count_as_lines_but_hold_no_event():
    read = parse_lines(b"\n  \r\n" + GOOD.replace(b"\n", b"\r\n") + b"\n", first_line=10)
    assert (read["row"].to_pylist(), read["refusal"].to_pylist()) == ([12], [None])
    assert parse_lines(b"").num_rows == 0


def test_lines_and_columns_give_the_same_events():
    rows = [event(kind, customer_id=f"C-{number}") for number, kind in enumerate(PAYLOAD)]
    read = parse_lines(b"".join(map(line, rows)))
    assert read.select(EVENT_SCHEMA.names).to_pylist() == rows
    assert read.select(EVENT_SCHEMA.names).schema == EVENT_SCHEMA


def test_many_blocks_keep_their_line_numbers():
    row = json.loads(line(event()))
    content = b"".join(json.dumps({**row, "event_id": f"e{n}"}).encode() + b"\n" for n in range(5000)) + b"{\n"
    read = parse_lines(content)
    assert read["row"].to_pylist() == list(range(1, 5002))
    assert read["event_id"].to_pylist() == [*(f"e{n}" for n in range(5000)), None]
    assert [row for row in read["refusal"].to_pylist() if row] == [RejectionReason.MALFORMED_JSON]


def test_other_columns_are_kept_and_no_event_is_no_fault():
    more = table(event()).append_column("shelf", pa.array([7]))
    assert validate_events(more, NOW, SKEW_S)["shelf"].to_pylist() == [7]
    assert validate_events(table(), NOW, SKEW_S).num_rows == 0


def test_a_byte_order_mark_before_any_line_is_no_part_of_it():
    mark = b"\xef\xbb\xbf"
    read = parse_lines(mark + GOOD + GOOD + mark + GOOD.replace(b"\n", b"\r\n") + mark + b"\n" + mark + b"{}\n")
    assert read["refusal"].to_pylist() == [None, None, None, RejectionReason.UNKNOWN_SCHEMA_VERSION]
    assert read["row"].to_pylist() == [1, 2, 3, 5]
    assert read["content"].to_pylist()[3] == b"{}"
    assert len({str(each) for each in read.drop_columns(["row"]).to_pylist()[:3]}) == 1


def test_byte_order_marks_may_stand_several_times_before_a_line():
    mark = b"\xef\xbb\xbf"
    read = parse_lines(mark * 2 + GOOD + mark * 3 + GOOD + GOOD[:-2] + mark + b"\n")
    assert read["refusal"].to_pylist() == [None, None, RejectionReason.MALFORMED_JSON]
    assert read["content"].to_pylist()[2].endswith(mark)


@pytest.mark.parametrize("beside", [b"", b"{\n"], ids=["read together", "read one by one"])
def test_letters_are_composed_so_that_an_id_has_one_spelling(beside):
    rows = [event(customer_id=f"M{letter}-1", event_id="e") for letter in ("\u00fc", "u\u0308")]
    lines = [json.dumps(json.loads(line(row)), ensure_ascii=False).encode() + b"\n" for row in rows]
    assert lines[0] != lines[1]
    read = parse_lines(b"".join(lines) + beside)
    assert read["customer_id"].to_pylist()[:2] == ["M\u00fc-1"] * 2


@pytest.mark.parametrize("beside", [b"", b"{\n"], ids=["read together", "read one by one"])
def test_unicodes_line_separators_end_no_line(beside):
    text = json.dumps(json.loads(line(event(event_id="a\u2028b\u2029c\x85d"))), ensure_ascii=False).encode() + b"\n"
    read = parse_lines(text + beside)
    assert read["event_id"].to_pylist()[0] == "a\u2028b\u2029c\x85d"


@pytest.mark.parametrize("beside", [b"", b"{\n"], ids=["read together", "read one by one"])
@pytest.mark.parametrize(
    "spelling",
    ["2024-05-01T10:00:00+00:00", "2024-05-01 10:00:00.123456789Z", 1714557600000, "2024-05-01T12:00:00+02:00"],
)
def test_instants_are_read_however_they_are_written(beside, spelling):
    written = line(event(), occurred_at=spelling, data_mb=2.0)
    read = parse_lines(written + beside)
    assert read["occurred_at"].to_pylist()[0].replace(microsecond=0) == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert read["data_mb"].to_pylist()[0] == 2
