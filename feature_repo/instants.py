"""Parsers of instants: ISO 8601 with an offset, or a whole number of units since 1970. Pure.

Used for events and for the command line's ``--as-of``. See docs/decisions/0002-time.md.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

INSTANT: Final = pa.timestamp("us", "UTC")
WANTED: Final = "2024-05-01T10:00:00Z"
"""Example of a valid instant, for error messages."""
EPOCH_UNITS: Final = (1, 1000, 1_000_000, 1_000_000_000)
"""Units per second: seconds, milli-, micro- and nanoseconds."""
EPOCH_FROM_S: Final = 946_684_800
EPOCH_UNTIL_S: Final = 4_102_444_800
"""2000-01-01 and 2100-01-01: between them a count since 1970 fits one unit only."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CANONICAL: Final = r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z\z"
_UTC: Final = (
    r"^([12][0-9]{3}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:(\.[0-9]{1,6})[0-9]{0,3})?"
    r" ?(?:[Zz]|UTC|[+-]00(?::?00)?)\z"
)
_WRITTEN: Final = re.compile(
    r"([12][0-9]{3}-?[0-9]{2}-?[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3])(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]{1,9})?)?)?)"
    r" ?([Zz]|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_DATE: Final = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}")


def instant(value: object) -> datetime:
    """Return the instant (UTC) that a JSON value encodes.

    Text is ISO 8601 with ``Z`` or an offset; a space may replace the T, and ``UTC`` the Z. A whole number counts
    seconds, milli-, micro- or nanoseconds since 1970, whichever is between 2000 and 2100. Fractions finer than a
    microsecond are cut off.

    Raises
    ------
    ValueError
        If it encodes no instant; the message names the fault without the value.

    Examples
    --------
    >>> from feature_repo.instants import instant
    >>> instant("2026-01-31T02:00:00+02:00") == instant(1769817600) == instant(1769817600000)
    True
    >>> instant("2026-01-31")
    Traceback (most recent call last):
        ...
    ValueError: a date without a time: write 2024-05-01T10:00:00Z
    """
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise ValueError(f"neither text nor a whole number: write {WANTED}")
    for unit in EPOCH_UNITS:
        if EPOCH_FROM_S * unit <= value < EPOCH_UNTIL_S * unit:
            return _EPOCH + timedelta(microseconds=value * 1_000_000 // unit)
    raise ValueError(f"a number that is no time since 1970 between 2000 and 2100: write {WANTED}")


def instants(column: Any) -> Any:
    """Return a string column (nulls stay) as ``INSTANT`` if all values are plainly UTC, else None."""
    if not _all_match(column, _CANONICAL):
        column = pc.replace_substring_regex(column, _UTC, r"\1T\2\3Z")
        if not _all_match(column, _CANONICAL):
            return None
    try:
        return column.cast(INSTANT)
    except pa.ArrowInvalid:  # a 30th of February
        return None


def _all_match(column: Any, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(column, pattern)).as_py() is not False


def _of_text(text: str) -> datetime:
    written = _WRITTEN.fullmatch(text)
    if written is None:
        fault = "a date without a time" if _DATE.fullmatch(text) else "no instant"
        raise ValueError(f"{fault}: write {WANTED}")
    day, time, zone = written.groups()
    if zone is None:
        raise ValueError(f"no time zone: write {WANTED}")
    offset = "+00:00" if zone in {"Z", "z", "UTC"} else zone
    try:
        return datetime.fromisoformat(f"{day}T{time.replace(',', '.')}{offset}").astimezone(UTC)
    except ValueError:
        raise ValueError(f"no such day, hour or offset: write {WANTED}") from None
