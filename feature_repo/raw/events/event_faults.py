"""Short descriptions of a quarantined event's fault: the field and its error, never its value. Pure.

See docs/decisions/0016-event-deliveries.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from feature_repo.contract import CUSTOMER
from feature_repo.events import (
    EVENT_SCHEMA,
    EVENT_SCHEMA_VERSION,
    KINDS,
    PAYLOAD,
    VALUE_MAX,
    Pairs,
    RejectionReason,
    parse_value,
)
from feature_repo.raw.snapshots.normalization import id_fault

_IDS: Final[Mapping[str, str]] = {
    RejectionReason.BAD_EVENT_ID: "event_id",
    RejectionReason.BAD_CUSTOMER_ID: CUSTOMER,
    RejectionReason.BAD_TICKET_ID: "ticket_id",
}
_ID_CHARS_MAX: Final = 64
_FIELDS: Final = ("schema_version", *EVENT_SCHEMA.names)


def event_fault(reason: str, event: Mapping[str, Any], content: bytes | None) -> str:
    """Return what is wrong with an event, empty where the reason's own sentence is enough.

    Parameters
    ----------
    reason
        A :class:`RejectionReason`.
    event
        The columns of EVENT_SCHEMA, as read.
    content
        The line that could not be read as an event; None for an event that was read.
    """
    if content is not None:
        return _line_fault(reason, content)
    if (name := _IDS.get(reason)) is not None:
        return f"{name}: {_id(name, event[name])}"
    kind = event["type"]
    wanted = PAYLOAD.get(kind, ())
    others = {each for names in PAYLOAD.values() for each in names} - set(wanted)
    numbers = {name: event[name] for name in EVENT_SCHEMA.names if isinstance(event[name], int)}
    broken: dict[str, list[str]] = {
        RejectionReason.UNKNOWN_TYPE: ["type"],
        RejectionReason.MISSING_TIME: [name for name in ("occurred_at", "arrived_at") if event[name] is None],
        RejectionReason.TOO_OLD: ["occurred_at"],
        RejectionReason.NEGATIVE_VALUE: [name for name, value in numbers.items() if value < 0],
        RejectionReason.VALUE_TOO_LARGE: [name for name, value in numbers.items() if value > VALUE_MAX],
        RejectionReason.MISSING_PAYLOAD: [name for name in wanted if event[name] is None],
        RejectionReason.UNEXPECTED_PAYLOAD: [
            f"{name} of {kind}" for name in EVENT_SCHEMA.names if name in others and event[name] is not None
        ],
    }
    fields = broken.get(reason, [])
    if fields == ["type"]:
        near = [each for each in PAYLOAD if kind and _letters(each) == _letters(kind)]
        return f"type: {f'{near[0]} in another spelling?' if near else 'missing' if kind is None else 'another word'}"
    return ", ".join(fields)


def _id(name: str, text: str | None) -> str:
    if text is None:
        return "missing"
    if name == CUSTOMER:
        return id_fault(text)
    return "empty" if not text else f"longer than {_ID_CHARS_MAX} characters"


def _line_fault(reason: str, line: bytes) -> str:
    if reason == RejectionReason.MALFORMED_JSON:
        return _no_json(line)
    if reason == RejectionReason.NOT_AN_OBJECT:
        return "a JSON array: write one object a line" if line.lstrip()[:1] == b"[" else ""
    return (
        ""
        if reason == RejectionReason.OVERSIZED_LINE
        else _object_fault(reason, json.loads(line, object_pairs_hook=Pairs))
    )


def _object_fault(reason: str, pairs: list[tuple[str, Any]]) -> str:
    names = [name for name, _ in pairs]
    if reason == RejectionReason.DUPLICATE_KEY:
        return ", ".join(name for name in _FIELDS if names.count(name) > 1)
    if reason == RejectionReason.UNKNOWN_SCHEMA_VERSION:
        return f"schema_version: {'not' if 'schema_version' in names else 'missing, write'} {EVENT_SCHEMA_VERSION}"
    if reason == RejectionReason.UNKNOWN_FIELD:
        place = next(place for place, name in enumerate(names, 1) if name not in _FIELDS)
        meant = [name for name in _FIELDS if _letters(name) == _letters(names[place - 1])]
        return f"field {place} of the object" + (f": {meant[0]} in another spelling?" if meant else "")
    return next(filter(None, (_wrong_type(name, value) for name, value in pairs if name in KINDS)), "")


def _wrong_type(name: str, value: Any) -> str:
    if value is None:
        return ""
    try:
        parse_value(KINDS[name], value)
    except UnicodeEncodeError:
        return f"{name}: half a surrogate pair is no text"
    except ValueError as fault:
        return f"{name}: {fault}"
    return ""


def _no_json(line: bytes) -> str:
    try:
        text = line.decode().strip()
    except UnicodeDecodeError:
        return "no UTF-8"
    if "\0" in text:
        return "NUL bytes: a damaged copy, or UTF-16 without its byte-order mark"
    if any(word in text for word in ("NaN", "Infinity")):
        return "NaN or Infinity: write null"
    if text in {"[", "]", "{", "}", "},"} or text.endswith((",", "[")):
        return "JSON over several lines: write one object a line"
    if text[:1] == "{" and text[-1:] != "}":
        return "an object that does not end in its line"
    return "single quotes where JSON has double ones" if text[:2] == "{'" else "text that is no JSON"


def _letters(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())
