"""Schema and validation rules of behavioural events, the same for files and streams. Pure.

An event is never dropped: it is admitted, or it is quarantined under exactly one :class:`RejectionReason`, the first
that applies in the order of the class. Rules that compare events with each other are in
:mod:`feature_repo.raw.events.admission`. See docs/decisions/0016-event-deliveries.md.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from configs.text import composed as composed_text
from feature_repo.contract import CUSTOMER, CUSTOMER_PATTERN
from feature_repo.instants import INSTANT, instant, instants

EVENT_SCHEMA_VERSION: Final = 1
"""Value of the field ``schema_version`` in each JSON line."""
EVENT_SCHEMA: Final = pa.schema(
    [
        ("event_id", pa.string()),
        ("revision", pa.int64()),
        ("retracted", pa.bool_()),
        ("type", pa.string()),
        (CUSTOMER, pa.string()),
        ("occurred_at", INSTANT),
        ("arrived_at", INSTANT),
        ("data_mb", pa.int64()),
        ("voice_minutes", pa.int64()),
        ("ticket_id", pa.string()),
        ("resolution_hours", pa.int64()),
        ("amount_cents", pa.int64()),
        ("days_late", pa.int64()),
        ("price_before_cents", pa.int64()),
        ("price_after_cents", pa.int64()),
    ]
)
"""The columns of an event.

Payload is null where the type has none; ``revision`` may be null (0), and ``retracted`` (False).
"""
PAYLOAD: Final[dict[str, tuple[str, ...]]] = {
    "usage_day": ("data_mb", "voice_minutes"),
    "ticket_opened": ("ticket_id",),
    "ticket_closed": ("ticket_id", "resolution_hours"),
    "payment": ("amount_cents", "days_late"),
    "login": (),
    "plan_change": ("price_before_cents", "price_after_cents"),
}
"""Event type -> payload columns that it must have, others being refused; optional in a retraction."""
LINE_BYTES_MAX: Final = 64 * 1024
VALUE_MAX: Final = 10**12
"""Upper limit of each number in an event (traffic of a day, price, revision): sums stay within int64."""
OLDEST: Final = datetime.fromisoformat("2000-01-01T00:00:00+00:00")

_ID_CHARS_MAX: Final = 64
_BLOCK_BYTES: Final = 256 * 1024
_PAYLOAD_COLUMNS: Final = tuple(dict.fromkeys(name for names in PAYLOAD.values() for name in names))
_NUMBERS: Final = ("revision", *(name for name in _PAYLOAD_COLUMNS if EVENT_SCHEMA.field(name).type == pa.int64()))
_MARKS: Final = re.compile(rb"\A(?:" + codecs.BOM_UTF8 + rb")+")
_LINE: Final = pa.schema(
    [
        ("schema_version", pa.int64()),
        *((field.name, pa.string() if field.type == INSTANT else field.type) for field in EVENT_SCHEMA),
    ]
)
KINDS: Final[dict[str, type]] = {
    field.name: {pa.int64(): int, pa.bool_(): bool, pa.string(): str, INSTANT: datetime}[field.type]
    for field in EVENT_SCHEMA
}
"""Field -> the Python type of its values."""


class Pairs(list[tuple[str, Any]]):
    """A JSON object as written, with every key in order; a list in JSON stays a plain list."""


_JSON_KINDS: Final[dict[type, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number with a fraction",
    bool: "true or false",
    list: "a list",
    Pairs: "an object",
    datetime: "an instant",
}


class RejectionReason(StrEnum):
    """Why an event is quarantined; ``sentence`` is the text for people. The first that applies counts.

    Examples
    --------
    >>> from feature_repo.events import RejectionReason
    >>> RejectionReason("unknown_type").sentence
    'There is no such type of event.'
    """

    sentence: str

    def __new__(cls, name: str, sentence: str) -> Self:
        """Create the member called ``name``, with its sentence."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        return member

    OVERSIZED_LINE = "oversized_line", "The line is longer than 64 KiB."
    MALFORMED_JSON = "malformed_json", "The line is no JSON in UTF-8."
    NOT_AN_OBJECT = "not_an_object", "The line is JSON, but no object."
    DUPLICATE_KEY = "duplicate_key", "The object names a field twice."
    UNKNOWN_SCHEMA_VERSION = "unknown_schema_version", "The field schema_version is not 1."
    UNKNOWN_FIELD = "unknown_field", "The object has a field that events do not have."
    WRONG_TYPE = "wrong_type", "A field is not of its type: text, whole number, true or false, or a UTC instant."
    BAD_EVENT_ID = "bad_event_id", "The event id is missing, empty or longer than 64 characters."
    UNKNOWN_TYPE = "unknown_type", "There is no such type of event."
    BAD_CUSTOMER_ID = "bad_customer_id", "The customer id is missing or has characters or a length that no id has."
    MISSING_TIME = "missing_time", "occurred_at or arrived_at is missing."
    TOO_OLD = "too_old", "The event is dated before the year 2000."
    OCCURRED_IN_FUTURE = "occurred_in_future", "The event is dated after now, or after it arrived."
    ARRIVED_IN_FUTURE = "arrived_in_future", "The event is said to arrive later than now."
    NEGATIVE_VALUE = "negative_value", "A duration, an amount or the revision is negative."
    VALUE_TOO_LARGE = "value_too_large", "A number is larger than 10^12."
    MISSING_PAYLOAD = "missing_payload", "A field that this type of event must have is missing."
    UNEXPECTED_PAYLOAD = "unexpected_payload", "A field is filled that this type of event does not have."
    BAD_TICKET_ID = "bad_ticket_id", "The ticket id is empty or longer than 64 characters."
    DUPLICATE = "duplicate", "The same event came before, with the same content."
    CONFLICTING_DUPLICATE = "conflicting_duplicate", "The same revision of the event came before, with other content."
    CONFLICTING_REVISION = "conflicting_revision", "Another revision of the event has another customer or type."
    UNKNOWN_CUSTOMER = "unknown_customer", "No published snapshot knows the customer; the event waits until one does."


SENTENCES: Final[dict[str, str]] = {reason.value: reason.sentence for reason in RejectionReason}
"""Rejection reason -> its sentence."""


def parse_lines(content: bytes, first_line: int = 1) -> pa.Table:
    r"""Parse JSON lines.

    Parameters
    ----------
    content
        Lines of JSON objects, UTF-8, ended by ``\n`` or ``\r\n``. Blank lines are skipped; so are byte-order marks at
        the beginning of a line, any number of them: files may have been concatenated.
    first_line
        The number of the first line, where ``content`` is a piece of a file.

    Returns
    -------
    pyarrow.Table
        The columns of :data:`EVENT_SCHEMA`, ``row`` (int64, the number of the line), ``refusal`` (string, the
        :class:`RejectionReason` of a line that is no event, else null) and ``content`` (binary, at most the first
        64 KiB of that line, unchanged). The other columns of such a line are null.

    Examples
    --------
    >>> from feature_repo.events import parse_lines
    >>> table = parse_lines(b'{"event_id": "e-1"}\nno JSON\n')
    >>> table["row"].to_pylist(), table["refusal"].to_pylist()
    ([1, 2], ['unknown_schema_version', 'malformed_json'])
    """
    tables, start, line = [_parsed([], [])], 0, first_line
    while start < len(content):
        end = content.find(b"\n", min(start + _BLOCK_BYTES, len(content) - 1)) + 1 or len(content)
        block = content[start:end]
        lines = [_MARKS.sub(b"", each.removesuffix(b"\r")) for each in block.removesuffix(b"\n").split(b"\n")]
        tables.append(_parse_clean(block, lines, line) or _parse_each(lines, line))
        start, line = end, line + len(lines)
    return pa.concat_tables(tables)


def validate_events(events: pa.Table, now: datetime, clock_skew_s: float) -> pa.Table:
    """Check each event on its own against the rules of admission.

    Parameters
    ----------
    events
        At least the columns of :data:`EVENT_SCHEMA`; others are kept. ``refusal``, if present, becomes the reason.
    now
        Reference instant, tz-aware; nothing may be dated later than ``clock_skew_s`` seconds after it.

    Returns
    -------
    pyarrow.Table
        The same rows in the same order without ``refusal``, and ``reason`` (string; null = no rule broken). Rows
        without a reason have no null in revision (0) and retracted (False), and none of them occurred after it
        arrived: within the tolerated skew ``arrived_at`` is moved to ``occurred_at``. The other rows are unchanged.

    Examples
    --------
    An event of next year is refused, the other one admitted:

    >>> from datetime import UTC, datetime
    >>> import pyarrow as pa
    >>> from feature_repo.events import EVENT_SCHEMA, validate_events
    >>> login = {"event_id": "e-1", "type": "login", "customer_id": "7590-VHVEG"}
    >>> rows = [login | {"occurred_at": at, "arrived_at": at} for at in (
    ...     datetime(2026, 1, 10, tzinfo=UTC), datetime(2027, 1, 10, tzinfo=UTC)
    ... )]
    >>> events = pa.Table.from_pylist(rows, EVENT_SCHEMA)
    >>> validate_events(events, datetime(2026, 2, 1, tzinfo=UTC), clock_skew_s=60)["reason"].to_pylist()
    [None, 'occurred_in_future']
    """
    skew = timedelta(seconds=clock_skew_s)
    occurred, arrived = events["occurred_at"], events["arrived_at"]
    latest = pa.scalar(now + skew, INSTANT)
    numbers = [events[name] for name in _NUMBERS]
    ticket = events["ticket_id"]
    rules: list[tuple[RejectionReason, Any]] = [
        (RejectionReason.BAD_EVENT_ID, _not(_is_id(events["event_id"]))),
        (RejectionReason.UNKNOWN_TYPE, _not(pc.is_in(events["type"], pa.array(PAYLOAD)))),
        (RejectionReason.BAD_CUSTOMER_ID, _not(_is_customer(events[CUSTOMER]))),
        (RejectionReason.MISSING_TIME, pc.or_(pc.is_null(occurred), pc.is_null(arrived))),
        (RejectionReason.TOO_OLD, pc.less(occurred, pa.scalar(OLDEST, INSTANT))),
        (RejectionReason.OCCURRED_IN_FUTURE, pc.greater(occurred, latest)),
        (
            RejectionReason.OCCURRED_IN_FUTURE,
            pc.greater(pc.subtract(occurred, arrived), pa.scalar(skew, pa.duration("us"))),
        ),
        (RejectionReason.ARRIVED_IN_FUTURE, pc.greater(arrived, latest)),
        (RejectionReason.NEGATIVE_VALUE, _any(pc.less(each, 0) for each in numbers)),
        (RejectionReason.VALUE_TOO_LARGE, _any(pc.greater(each, VALUE_MAX) for each in numbers)),
        (
            RejectionReason.MISSING_PAYLOAD,
            pc.and_not(_payload(events, wanted=True), pc.fill_null(events["retracted"], False)),  # noqa: FBT003 - not ours
        ),
        (RejectionReason.UNEXPECTED_PAYLOAD, _payload(events, wanted=False)),
        (RejectionReason.BAD_TICKET_ID, pc.and_(pc.is_valid(ticket), _not(_is_id(ticket)))),
    ]
    broken = pc.make_struct(*(pc.fill_null(found, False) for _, found in rules))  # noqa: FBT003
    reason = pc.case_when(broken, *(pa.scalar(each.value) for each, _ in rules))
    if "refusal" in events.column_names:
        reason = pc.coalesce(events["refusal"], reason)
        events = events.drop_columns("refusal")
    admitted = pc.is_null(reason)
    mended = {
        "revision": pc.fill_null(events["revision"], 0),
        "retracted": pc.fill_null(events["retracted"], False),  # noqa: FBT003
        "arrived_at": pc.if_else(pc.greater(occurred, arrived), occurred, arrived),
    }
    for name, column in mended.items():
        chosen = pc.if_else(admitted, column, events[name])
        events = events.set_column(events.column_names.index(name), EVENT_SCHEMA.field(name), chosen)
    return events.append_column(pa.field("reason", pa.string()), reason)


def _not(found: Any) -> Any:
    return pc.invert(pc.fill_null(found, False))  # noqa: FBT003


def _any(conditions: Iterable[Any]) -> Any:
    found = None
    for condition in conditions:
        each = pc.fill_null(condition, False)  # noqa: FBT003
        found = each if found is None else pc.or_(found, each)
    return found


def _is_id(column: Any) -> Any:
    length = pc.utf8_length(column)
    return pc.and_(pc.greater(length, 0), pc.less_equal(length, _ID_CHARS_MAX))


def _is_customer(column: Any) -> Any:
    # Matched in Python, on the distinct ids: Arrow's regular expressions know ASCII letters only.
    good = re.compile(CUSTOMER_PATTERN)
    known = [each for each in pc.unique(column).to_pylist() if each is not None and good.fullmatch(each)]
    return pc.is_in(column, pa.array(known, pa.string()))


def _payload(events: pa.Table, *, wanted: bool) -> Any:
    """Return where a required column is null or, with ``wanted`` false, a column not allowed is filled."""
    return _any(
        pc.and_(
            pc.equal(pc.is_in(events["type"], pa.array([kind for kind in PAYLOAD if name in PAYLOAD[kind]])), wanted),
            pc.equal(pc.is_null(events[name]), wanted),
        )
        for name in _PAYLOAD_COLUMNS
    )


def _parse_clean(block: bytes, lines: list[bytes], first_line: int) -> pa.Table | None:
    """Parse a block without faults, ten times as fast as line by line; None where there may be one.

    It handles flat objects, one per line: a line that begins with { and ends with } begins and ends an object, as no
    text holds a line break; and as many objects as lines means one per line.
    """
    if b"\\u" in block or not all(
        line[:1] == b"{" and line[-1:] == b"}" and len(line) <= LINE_BYTES_MAX for line in lines
    ):
        return None
    try:
        block.decode()
        read = pj.read_json(
            pa.BufferReader(block),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pj.ParseOptions(explicit_schema=_LINE, unexpected_field_behavior="error"),
        )
    except (UnicodeDecodeError, pa.ArrowInvalid):
        return None
    columns = [_READ.get(field.type, _as_it_is)(read[field.name]) for field in EVENT_SCHEMA]
    versions = pc.equal(read["schema_version"], EVENT_SCHEMA_VERSION)
    if (
        any(each is None for each in columns)
        or read.num_rows != len(lines)
        or not pc.all(versions, skip_nulls=False).as_py()
    ):
        return None
    return _with_rows(columns, range(first_line, first_line + len(lines)), [None] * len(lines), [None] * len(lines))


def composed_column(column: Any) -> Any:
    """Return a column of text with its letters composed (NFC), so that an id has one encoding."""
    if pc.all(pc.string_is_ascii(column)).as_py() is not False:
        return column
    # Not Arrow's utf8_normalize: of its four forms each decomposes (pyarrow 25).
    words = (each if each is None else composed_text(each) for each in column.to_pylist())
    return pa.array(words, column.type)


def _as_it_is(column: Any) -> Any:
    return column


_READ: Final[dict[pa.DataType, Callable[[Any], Any]]] = {pa.string(): composed_column, INSTANT: instants}


def _parse_each(lines: list[bytes], first_line: int) -> pa.Table:
    numbered = [(number, line) for number, line in enumerate(lines, first_line) if line.strip()]
    return _parsed([number for number, _ in numbered], [line for _, line in numbered])


def _parsed(numbers: list[int], lines: list[bytes]) -> pa.Table:
    read = [_parse(line) for line in lines]
    events = [each if isinstance(each, dict) else {} for each in read]
    columns = [pa.array([event.get(field.name) for event in events], field.type) for field in EVENT_SCHEMA]
    refusals = [each.value if isinstance(each, RejectionReason) else None for each in read]
    contents = [
        line[:LINE_BYTES_MAX] if isinstance(each, RejectionReason) else None
        for each, line in zip(read, lines, strict=True)
    ]
    return _with_rows(columns, numbers, refusals, contents)


def _with_rows(columns: list[Any], numbers: Iterable[int], refusals: list[Any], contents: list[Any]) -> pa.Table:
    more = [pa.array(numbers, pa.int64()), pa.array(refusals, pa.string()), pa.array(contents, pa.binary())]
    return pa.table([*columns, *more], names=[*EVENT_SCHEMA.names, "row", "refusal", "content"])


def _parse(line: bytes) -> dict[str, Any] | RejectionReason:  # noqa: PLR0911 - a rule each
    if len(line) > LINE_BYTES_MAX:
        return RejectionReason.OVERSIZED_LINE
    try:
        text = line.decode()
        pairs = json.loads(text, object_pairs_hook=Pairs, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return RejectionReason.MALFORMED_JSON
    if not isinstance(pairs, Pairs):
        return RejectionReason.NOT_AN_OBJECT
    event = dict(pairs)
    if len(event) < len(pairs):
        return RejectionReason.DUPLICATE_KEY
    version = event.pop("schema_version", None)
    if type(version) is not int or version != EVENT_SCHEMA_VERSION:
        return RejectionReason.UNKNOWN_SCHEMA_VERSION
    if not event.keys() <= KINDS.keys():
        return RejectionReason.UNKNOWN_FIELD
    try:
        return {name: parse_value(KINDS[name], value) for name, value in event.items() if value is not None}
    except ValueError:
        return RejectionReason.WRONG_TYPE


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def parse_value(kind: type, value: Any) -> Any:
    """Return a JSON value as its column holds it: text in NFC, whole numbers also where written as 1.0.

    Raises ValueError if it does not fit; the message names the fault without the value. UnicodeEncodeError, a subclass,
    gives no such guarantee.

    Examples
    --------
    >>> from feature_repo.events import parse_value
    >>> parse_value(int, 3.0), parse_value(str, "login")
    (3, 'login')
    """
    if kind is datetime:
        return instant(value)
    if kind is int and type(value) is float and value.is_integer():
        value = int(value)
    # Not isinstance: bool is a subclass of int in Python.
    if type(value) is not kind:
        raise ValueError(f"{_JSON_KINDS.get(type(value), 'something else')} where {_JSON_KINDS[kind]} belongs")
    if isinstance(value, str):
        value.encode()
        return composed_text(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a number beyond int64")
    return value
