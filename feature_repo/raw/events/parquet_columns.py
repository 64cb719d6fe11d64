"""Conversion of Parquet columns to event columns: accepted types, and faults of values. Pure.

Types are checked before a row is read (:func:`refused_columns`), values row by row: a row with a value that can't be
converted is refused individually, as a JSON line would be. Used by :mod:`feature_repo.raw.events.parquet_child`.
See docs/decisions/0038-parquet-in-a-child.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.events import EVENT_SCHEMA, RejectionReason, composed_column
from feature_repo.instants import EPOCH_FROM_S, EPOCH_UNITS, EPOCH_UNTIL_S, INSTANT, WANTED, instant, instants

TEXT_CHARS_MAX: Final = 65
"""Longer text is truncated: one more than any id may have, so that every rule gives the same result as on the whole."""

_INT64_MAX: Final = 2**63 - 1
_EXACT_MAX: Final = 2**53
_YEAR_1_S: Final = -62_135_596_800
_YEAR_10000_S: Final = 253_402_300_800
_UNITS: Final = dict(zip(("s", "ms", "us", "ns"), EPOCH_UNITS, strict=True))
_SHOWN: Final = 5
# Column that pandas adds for an unnamed index that is not a plain range.
_INDEX: Final = re.compile(r"__index_level_[0-9]+__")

Read = tuple[Any, Any, str]
"""(converted column, mask of values that could not be converted (boolean; None: no such value), their fault)."""


def refused_columns(found: pa.Schema, utc: Collection[str] = ()) -> str:
    """Return which columns are missing, unknown or of an unsuitable type; empty if none is.

    Names and types of unknown columns are not repeated: a column may be named after a customer.

    Parameters
    ----------
    found
        The file's schema.
    utc
        Names of columns whose instants are UTC although their type has no time zone: Spark's INT96.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(found.names, 1):
        places.setdefault(name, []).append(place)
    faults = []
    if missing := [name for name in EVENT_SCHEMA.names if name not in places]:
        faults.append(f"lacks {', '.join(missing)}")
    if extra := [places[name][0] for name in places if name not in {*EVENT_SCHEMA.names, *_index_columns(found)}]:
        more = f" and {len(extra) - _SHOWN} more" if len(extra) > _SHOWN else ""
        shown = ", ".join(map(_ordinal, sorted(extra)[:_SHOWN]))
        columns = "an unknown column" if len(extra) == 1 else "unknown columns"
        faults.append(f"has {columns}: the {shown}{more} of its {len(found.names)}")
    if twice := [name for name in EVENT_SCHEMA.names if len(places.get(name, ())) > 1]:
        faults.append(f"names twice: {', '.join(twice)}")
    if not faults:
        wrong = [
            f"{field.name} is {fault}, not {_meaning(field.type)}"
            for field in EVENT_SCHEMA
            if (fault := _other_meaning(found.field(field.name).type, field.type, field.name in utc))
        ]
        faults += [f"has wrong types: {', '.join(wrong)}"] if wrong else []
    return "; ".join(faults)


def read_columns(rows: pa.Table) -> pa.Table:
    """Convert rows to events.

    Parameters
    ----------
    rows
        Columns in which :func:`refused_columns` found nothing.

    Returns
    -------
    pyarrow.Table
        The columns of EVENT_SCHEMA, ``refusal`` (string: :attr:`RejectionReason.WRONG_TYPE` for a row with a value that
        can't be converted, else null) and ``fault`` (string: the first such column and what its value is; else null).
    """
    columns, faults = [], []
    for field in EVENT_SCHEMA:
        column = rows[field.name].combine_chunks() if rows[field.name].num_chunks != 1 else rows[field.name].chunk(0)
        stored = column.storage if isinstance(column.type, pa.BaseExtensionType) else column
        read, wrong, what = _READERS[field.type](stored)
        columns.append(read.cast(field.type))
        if wrong is not None:
            faults.append(pc.if_else(pc.fill_null(wrong, False), f"{field.name}: {what}", None))  # noqa: FBT003
    fault = pc.coalesce(*faults, pa.nulls(len(rows), pa.string())) if faults else pa.nulls(len(rows), pa.string())
    refusal = pc.if_else(pc.is_valid(fault), RejectionReason.WRONG_TYPE.value, None)
    return pa.table([*columns, refusal.cast(pa.string()), fault], names=[*EVENT_SCHEMA.names, "refusal", "fault"])


def _index_columns(found: pa.Schema) -> list[str]:
    """Return the columns that pandas wrote for an unnamed index; none if its metadata is damaged."""
    try:
        told = (found.pandas_metadata or {}).get("index_columns", [])
        return [name for name in told if isinstance(name, str) and _INDEX.fullmatch(name)]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return []


def _ordinal(place: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th") if place // 10 % 10 != 1 else "th"
    return f"{place}{ending}"


def _meaning(wanted: pa.DataType) -> str:
    return {pa.string(): "text", pa.int64(): "a whole number", pa.bool_(): "true or false"}.get(
        wanted, "an instant in UTC"
    )


def _other_meaning(found: pa.DataType, wanted: pa.DataType, utc: bool) -> str:  # noqa: FBT001 - private
    """Return a description of a type that can't be read as ``wanted``; empty for one that can."""
    types = pa.types
    if isinstance(found, pa.UuidType):
        return "a UUID"
    if isinstance(found, pa.BaseExtensionType):
        found = found.storage_type
    if types.is_dictionary(found):
        found = found.value_type
    if types.is_null(found) or found == wanted:
        return ""
    number = types.is_integer(found) or types.is_decimal(found) or types.is_floating(found)
    text = found in _TEXTS or types.is_fixed_size_binary(found)
    told = {
        pa.string(): text,
        pa.int64(): number,
        INSTANT: types.is_integer(found) or types.is_float64(found) or text,
        pa.bool_(): types.is_int8(found) or types.is_uint8(found),
    }.get(wanted, False)
    if types.is_timestamp(found):
        told = wanted == INSTANT and (found.tz is not None or utc)
        return "" if told else f"an instant {'with' if found.tz else 'without'} a time zone"
    if told:
        return ""
    if types.is_date(found):
        return "a date without a time"
    # str() of a nested type contains the file's field names; that of an extension (a dictionary's values) may too.
    return "a nested type" if types.is_nested(found) or isinstance(found, pa.BaseExtensionType) else str(found)


_TEXTS: Final = frozenset(
    {pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()}
)


def _text(column: Any) -> Read:
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.string()), None, ""
    if pa.types.is_dictionary(column.type):
        # Truncated before it is decoded to rows: a word of a megabyte may occur in each of a million.
        words, wrong, what = _text(column.dictionary)
        spread = words.take(column.indices)
        return spread, None if wrong is None else wrong.take(column.indices), what
    raw = column.cast(pa.large_binary())
    try:
        text = raw.cast(pa.large_string())
        wrong = None
    except pa.ArrowInvalid:
        good = pa.array([each is None or _is_utf8(each) for each in raw.to_pylist()], pa.bool_())
        text, wrong = pc.if_else(good, raw, None).cast(pa.large_string()), pc.invert(good)
    return composed_column(pc.utf8_slice_codeunits(text, 0, TEXT_CHARS_MAX)).cast(pa.string()), wrong, "no UTF-8"


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _whole(column: Any) -> Read:
    column = _spread(column)
    kind, types = column.type, pa.types
    if types.is_uint64(kind):
        wrong = pc.greater(column, pa.scalar(_INT64_MAX, pa.uint64()))
        return pc.if_else(wrong, None, column).cast(pa.int64()), wrong, "a number beyond int64"
    if types.is_decimal(kind):
        values = column.to_pylist()
        good = pa.array([each is None or _fits_int64(each) for each in values], pa.bool_())
        whole = [None if each is None or not _fits_int64(each) else int(each) for each in values]
        return pa.array(whole, pa.int64()), pc.invert(good), "a number with a fraction, or beyond int64"
    if types.is_floating(kind):
        numbers = column.cast(pa.float64())
        # NaN is null: pandas writes missing values in a column of whole numbers so.
        numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
        exact = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less_equal(pc.abs(numbers), float(_EXACT_MAX)))
        whole = pc.if_else(exact, numbers, None).cast(pa.int64())
        return whole, pc.invert(exact), "a number with a fraction, or too large to be exact"
    return column.cast(pa.int64()), None, ""


def _fits_int64(value: Decimal) -> bool:
    return value.is_finite() and value == value.to_integral_value() and abs(value) <= _INT64_MAX


def _instant(column: Any) -> Read:
    column = _spread(column)
    if pa.types.is_timestamp(column.type):
        unit = _UNITS[column.type.unit]
        count = column.cast(pa.int64())
        low, high = max(_YEAR_1_S * unit, -_INT64_MAX), min(_YEAR_10000_S * unit, _INT64_MAX)
        wrong = pc.or_(pc.less(count, low), pc.greater_equal(count, high))
        return _of_count(pc.if_else(wrong, None, count), unit), wrong, "no instant of the years 1 to 9999"
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        count = _whole_count(column)
        read = pa.nulls(len(count), INSTANT)
        for unit in EPOCH_UNITS:
            of_unit = pc.and_(pc.greater_equal(count, EPOCH_FROM_S * unit), pc.less(count, EPOCH_UNTIL_S * unit))
            read = pc.coalesce(read, _of_count(pc.if_else(of_unit, count, None), unit))
        wrong = pc.and_(pc.is_valid(column), pc.is_null(read))
        if pa.types.is_floating(column.type):
            wrong = pc.and_not(wrong, pc.is_nan(column))
        return read, wrong, f"a number that is no time since 1970 between 2000 and 2100: write {WANTED}"
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), INSTANT), None, ""
    text, no_text, _ = _text(column)
    if no_text is None and (read := instants(text)) is not None:
        return read, None, ""
    told = [None if each is None else _as_shown(each) for each in text.to_pylist()]
    wrong = pa.array([each is not None and isinstance(each, str) for each in told], pa.bool_())
    if no_text is not None:
        wrong = pc.or_(wrong, pc.fill_null(no_text, False))  # noqa: FBT003
    fault = next((each for each in told if isinstance(each, str)), "no UTF-8")
    return pa.array([None if isinstance(each, str) else each for each in told], INSTANT), wrong, fault


def _whole_count(column: Any) -> Any:
    """Return numbers as int64, null where not whole; also doubles beyond 2**53, as in JSON."""
    if not pa.types.is_floating(column.type):
        return _whole(column)[0]
    good = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), float(EPOCH_UNTIL_S * EPOCH_UNITS[-1])))
    return pc.if_else(good, column, None).cast(pa.int64(), safe=False)


def _as_shown(text: str) -> Any:
    """Return the parsed instant, or the error message of its text."""
    try:
        return instant(text)
    except ValueError as fault:
        return str(fault)


def _of_count(count: Any, unit: int) -> Any:
    micro = EPOCH_UNITS[2]
    # Floored, not rounded: the order of instants is kept.
    scaled = pc.multiply(count, micro // unit) if unit <= micro else pc.divide(count, unit // micro)
    return scaled.cast(INSTANT)


def _truth(column: Any) -> Read:
    column = _spread(column)
    if not pa.types.is_integer(column.type):
        return column.cast(pa.bool_()), None, ""
    wrong = pc.invert(pc.is_in(column, pa.array([0, 1, None], column.type)))
    return pc.if_else(wrong, None, column).cast(pa.bool_()), wrong, "a number that is neither 0 nor 1"


def _spread(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


_READERS: Final[dict[pa.DataType, Callable[[Any], Read]]] = {
    pa.string(): _text,
    pa.int64(): _whole,
    pa.bool_(): _truth,
    INSTANT: _instant,
}
