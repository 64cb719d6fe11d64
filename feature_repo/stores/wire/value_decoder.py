"""Decoder of Feast's stored online values, without a protobuf object for the common types. Pure.

The other direction is in ``value_encoder``: a value is a serialized ``feast.types.Value``, a protobuf message with one
field set. A message that is encoded in another way than by Feast's writers, or is of a rarer type, goes through Feast's
own conversion, so that every message gives what Feast gives for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from feast.protos.feast.types.Value_pb2 import Int64List, Value
from feast.type_map import feast_value_type_to_python_type
from feast.value_type import ValueType
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # none are published

from feature_repo.contract import DType, Feature
from feature_repo.stores.casting import to_python_values
from feature_repo.stores.wire.memo import BoundedCache

_SEPTET, _MORE = 0x7F, 0x80
_TOP_BIT, _BITS = 1 << 63, 64
_VARINT_MAX_BYTES: Final = 10
_LIST_FIELD: Final = 0x0A  # ``repeated … val = 1``, packed
_UNKNOWN: Final = object()
"""Result for a message without a fast path here. None would be a value."""
_DOUBLE: Final = struct.Struct("<d")
_FLOAT: Final = struct.Struct("<f")
_TYPES: Final[dict[DType, type]] = {"bool": bool, "int64": int, "float64": float, "string": str, "int64_list": list}
_SHAREABLE: Final = {
    ValueType.BOOL,
    ValueType.INT32,
    ValueType.INT64,
    ValueType.FLOAT,
    ValueType.DOUBLE,
    ValueType.STRING,
    ValueType.BYTES,
    ValueType.UNIX_TIMESTAMP,
}


def decode(raw: bytes | None) -> Any:
    """Return what Feast's ``to_dict`` gives for a stored value; None for nothing stored and for a null.

    Raises google.protobuf.message.DecodeError where the bytes are no Value.
    """
    if not raw:
        return None
    known = _BY_TAG.get(raw[0])
    found = known(raw) if known else _UNKNOWN
    return feast_value_type_to_python_type(Value.FromString(raw)) if found is _UNKNOWN else found


def decoder_of(value_type: ValueType, memo: BoundedCache) -> Callable[[bytes | None], Any]:
    """Return the decoder of a feature that declares this type; ``memo`` is one of :func:`decode`.

    A mutable value, such as a list, is made anew for each call.
    """
    if value_type in _SHAREABLE:
        return memo.__getitem__
    if value_type is ValueType.INT64_LIST:
        return lambda raw: list(memo[raw]) if raw else None
    return lambda raw: feast_value_type_to_python_type(Value.FromString(raw or b""), value_type)


def contract_decoder(feature: Feature) -> BoundedCache:
    """Return the decoder of a feature into the contract's type, cast as by ``to_python_values``.

    A NaN is None too. Lists are shared between all reads of the same bytes: callers must not change them.
    """
    kind = _TYPES[feature.dtype]

    def typed(raw: bytes | None) -> Any:
        value = decode(raw)
        # A NaN differs from itself.
        if value is None or (type(value) is kind and value == value) or kind is list:  # noqa: PLR0124
            return value
        return to_python_values(feature, [value])[0]

    return BoundedCache(typed)


def instant_of(raw: bytes) -> datetime:
    """Return a stored ``google.protobuf.Timestamp`` as Feast reads it: UTC, with a float's microseconds."""
    stamp = Timestamp.FromString(raw)
    return datetime.fromtimestamp(stamp.seconds + stamp.nanos / 1_000_000_000.0, UTC)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """Return an unsigned number and the position after it; position -1 where it does not end properly."""
    if at < len(raw) and raw[at] < _MORE:
        return raw[at], at + 1
    value = shift = 0
    for place in range(at, min(at + _VARINT_MAX_BYTES, len(raw))):
        byte = raw[place]
        value |= (byte & _SEPTET) << shift
        if byte < _MORE:
            # A number beyond 64 bits is left to protobuf.
            return (value, place + 1) if value < 1 << _BITS else (0, -1)
        shift += 7
    return 0, -1


def _signed(value: int) -> int:
    return value - (1 << _BITS) if value >= _TOP_BIT else value


def _int64(raw: bytes) -> Any:
    if len(raw) == 2 and raw[1] < _MORE:  # noqa: PLR2004 - a tag and a small number
        return raw[1]
    value, end = _varint(raw, 1)
    return _signed(value) if end == len(raw) else _UNKNOWN


def _bool(raw: bytes) -> Any:
    return raw[1] == 1 if len(raw) == 2 and raw[1] <= 1 else _UNKNOWN  # noqa: PLR2004


def _double(raw: bytes) -> Any:
    return _DOUBLE.unpack_from(raw, 1)[0] if len(raw) == 1 + _DOUBLE.size else _UNKNOWN


def _float(raw: bytes) -> Any:
    return _FLOAT.unpack_from(raw, 1)[0] if len(raw) == 1 + _FLOAT.size else _UNKNOWN


def _string(raw: bytes) -> Any:
    length, start = _varint(raw, 1)
    if start < 0 or start + length != len(raw):
        return _UNKNOWN
    try:
        return raw[start:].decode()
    except UnicodeDecodeError:
        return _UNKNOWN


def _int64_list(raw: bytes) -> Any:
    size = len(raw)
    length, start = _varint(raw, 1)
    if start < 0 or start + length != size:
        return _UNKNOWN
    if start == size:
        return []
    if raw[start] != _LIST_FIELD:
        return _UNKNOWN
    packed, first = _varint(raw, start + 1)
    if first < 0 or first + packed != size:
        return _UNKNOWN
    numbers = raw[first:]
    # Small counts are a byte each. For longer numbers protobuf's own parser, which is C, is faster than any loop here.
    return list(numbers) if numbers.isascii() else Int64List.FromString(raw[start:]).val[:]


def _tag(field: str, wire: int) -> int:
    return int(Value.DESCRIPTOR.fields_by_name[field].number) << 3 | wire


_BY_TAG: Final[dict[int, Callable[[bytes], Any]]] = {
    _tag("int64_val", 0): _int64,
    _tag("bool_val", 0): _bool,
    _tag("double_val", 1): _double,
    _tag("float_val", 5): _float,
    _tag("string_val", 2): _string,
    _tag("int64_list_val", 2): _int64_list,
}
