"""Encoders of Feast's entity keys (version 3), for whole columns and single values. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
from feast.value_type import ValueType

from feature_repo.stores.wire.value_encoder import BINARY, by_length, join, microseconds

_STRING: Final = ValueType.STRING.value
_WIDTH: Final = {ValueType.INT32: "<i4", ValueType.INT64: "<i8", ValueType.UNIX_TIMESTAMP: "<i8"}

_LENGTH: Final = struct.Struct("<I")
_INT64: Final = struct.Struct("<q")


def encode_entity_keys(
    columns: dict[str, pa.Array], value_types: dict[str, ValueType], suffix: bytes = b""
) -> pa.Array:
    """Return each row's entity key as large_binary, followed by ``suffix`` (the project's name, in Redis).

    Layout, all numbers uint32 little-endian: number of join keys; then type, length and name of each; then type, length
    and bytes of each value. Keys are sorted by name. Source: feast/infra/key_encoding_utils.py.

    Raises
    ------
    ValueError
        If a key is null, as in Feast, or of a type that Feast does not allow for keys.
    """
    names = sorted(columns)
    head = struct.pack("<I", len(names))
    for name in names:
        spelt = name.encode()
        head += struct.pack("<II", _STRING, len(spelt)) + spelt
    parts: list[Any] = []
    for name in names:
        column, value_type = columns[name], value_types[name]
        if column.null_count:
            raise ValueError(f"entity key {name} is null in {column.null_count} rows")
        value = _value(column, value_type, name)

        def header(length: int, start: bytes = head, code: int = value_type.value) -> bytes:
            return start + struct.pack("<II", code, length)

        lengths = np.diff(np.frombuffer(value.buffers()[1], np.int64)[value.offset : value.offset + len(value) + 1])
        parts += [by_length(lengths, header), value]
        head = b""
    if suffix:
        parts.append(pa.scalar(suffix, BINARY))
    return join(parts)


def _value(column: pa.Array, value_type: ValueType, name: str) -> pa.Array:
    if value_type is ValueType.STRING:
        return column.cast(pa.large_string()).cast(BINARY)
    if value_type is ValueType.BYTES:
        return column.cast(BINARY)
    if value_type not in _WIDTH:
        raise ValueError(f"entity key {name} is a {value_type.name}; Feast takes strings, bytes, integers and times")
    if value_type is ValueType.UNIX_TIMESTAMP:
        numbers = np.floor_divide(microseconds(column), 1_000_000)
    else:
        numbers = column.cast(pa.int32() if value_type is ValueType.INT32 else pa.int64()).to_numpy(
            zero_copy_only=False
        )
    table = np.ascontiguousarray(numbers, _WIDTH[value_type])
    offsets = np.arange(len(table) + 1, dtype=np.int64) * table.itemsize
    return pa.Array.from_buffers(BINARY, len(table), [None, pa.py_buffer(offsets), pa.py_buffer(table)])


def entity_key_serializer(join_key: str, value_type: ValueType) -> tuple[type, Callable[[Any], bytes]] | None:
    """Return the Python type of a join key's values, and the function that encodes one.

    None for types other than string and int64.
    """
    spelt = join_key.encode()
    head = struct.pack("<III", 1, ValueType.STRING.value, len(spelt)) + spelt + _LENGTH.pack(value_type.value)
    if value_type is ValueType.STRING:
        return str, lambda value: _string(head, value)
    if value_type is ValueType.INT64:
        head += _LENGTH.pack(_INT64.size)
        return int, lambda value: head + _INT64.pack(value)
    return None


def _string(head: bytes, value: str) -> bytes:
    spelt = value.encode()
    return b"%b%b%b" % (head, _LENGTH.pack(len(spelt)), spelt)
