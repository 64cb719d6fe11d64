"""Encoder of Arrow columns to the bytes that Feast would write, whole columns at a time. Pure.

A feature value is a serialized ``feast.types.Value``: a protobuf message with one field set, so one tag byte or two,
then the value. The numbers of the fields are read from Feast's own descriptor. Values without a fast path here (maps,
sets, JSON, null elements in a list, a column of another type than was declared) go through Feast's own conversion, so
that every type is covered and none differs.

Two rules of Feast are kept on purpose: NaN is null, and a null timestamp is the smallest int64. Two faults of Feast are
not reproduced, because the value would be wrong: an integer next to a null loses its digits beyond 2**53, or fails; and
a batch in which all byte strings are empty becomes null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

from feature_repo.stores.wire.varint import Bytes, Ints, varint, varints

BINARY: Final = pa.large_binary()
_SAMPLE_ROWS: Final = 512
_SMALL_RANGE: Final = 1024
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types
_TABLE_BYTES: Final = 1 << 20
_LIST_FIELD: Final = b"\x0a"  # ``repeated … val = 1`` of Feast's lists, packed or of strings
_NO_TIMESTAMP: Final = int(np.iinfo(np.int64).min)
_SCALARS: Final = {
    ValueType.BOOL: ("bool_val", _VARINT),
    ValueType.INT32: ("int32_val", _VARINT),
    ValueType.INT64: ("int64_val", _VARINT),
    ValueType.UNIX_TIMESTAMP: ("unix_timestamp_val", _VARINT),
    ValueType.FLOAT: ("float_val", _FIXED32),
    ValueType.DOUBLE: ("double_val", _FIXED64),
    ValueType.STRING: ("string_val", _LENGTH),
    ValueType.BYTES: ("bytes_val", _LENGTH),
}
_LISTS: Final = {
    ValueType.BOOL_LIST: ("bool_list_val", ValueType.BOOL),
    ValueType.INT32_LIST: ("int32_list_val", ValueType.INT32),
    ValueType.INT64_LIST: ("int64_list_val", ValueType.INT64),
    ValueType.FLOAT_LIST: ("float_list_val", ValueType.FLOAT),
    ValueType.DOUBLE_LIST: ("double_list_val", ValueType.DOUBLE),
    ValueType.STRING_LIST: ("string_list_val", ValueType.STRING),
    ValueType.BYTES_LIST: ("bytes_list_val", ValueType.BYTES),
}


def encode_values(column: pa.Array, value_type: ValueType) -> pa.Array:
    """Return one byte string per row: the serialized Value, empty where the value is null or NaN.

    ``value_type`` is the declared type of the feature. The result has no nulls; it is large_binary, or a dictionary of
    large_binary where values repeat. Raises the errors of Feast's conversion for values that don't fit the type.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if value_type in _SCALARS and _fits(column.type, value_type):
        return _scalars(column, value_type)
    if value_type in _LISTS and _is_list(column.type) and _fits(column.type.value_type, _LISTS[value_type][1]):
        encoded = _lists(column, value_type)
        if encoded is not None:
            return encoded
    return _through_feast(column, value_type)


def encode_timestamps(instants_us: Ints) -> pa.DictionaryArray:
    """Return instants (UTC microseconds since 1970) as serialized ``google.protobuf.Timestamp`` messages."""
    codes = pa.array(instants_us).dictionary_encode()
    distinct = codes.dictionary.to_numpy()
    seconds = np.floor_divide(distinct, 1_000_000)
    nanos = (distinct - seconds * 1_000_000) * 1000
    parts = []
    for number, part in ((1, seconds), (2, nanos)):
        data, lengths = varints(part, number << 3)
        parts.append(_sparse(data, lengths, part != 0))  # proto3 leaves a zero out
    return pa.DictionaryArray.from_arrays(codes.indices, join(parts))


def microseconds(column: pa.Array) -> Ints:
    """Return a timestamp column without nulls as UTC microseconds since 1970; finer ones are rounded down."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if not pa.types.is_timestamp(column.type):
        raise TypeError(f"a timestamp was expected, not {column.type}")
    if column.null_count:
        raise ValueError("a feature row has no timestamp")
    ticks: Ints = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    if column.type.unit == "ns":
        return np.floor_divide(ticks, 1000)
    return ticks * np.int64({"s": 1_000_000, "ms": 1000, "us": 1}[column.type.unit])


def join(parts: list[Any]) -> pa.Array:
    """Return the rows' parts concatenated; a part is a large_binary array or a scalar for all rows."""
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", BINARY))


def lengths_of(column: pa.Array) -> Ints:
    """Return the length (bytes) of each value of a binary column without nulls."""
    found: Ints = pc.binary_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def by_length(lengths: Ints, encode: Callable[[int], bytes]) -> Any:
    """Return ``spell(length)`` for each row, as an array; as a scalar where all lengths are the same."""
    if not len(lengths):
        return pa.array([], BINARY)
    least, most = int(lengths.min()), int(lengths.max())
    if least == most:
        return pa.scalar(encode(least), BINARY)
    if most - least < _TABLE_BYTES:
        counts = np.bincount(lengths - least)
        distinct = np.flatnonzero(counts) + least
        codes = (np.cumsum(counts > 0) - 1)[lengths - least]
    else:
        distinct, codes = np.unique(lengths, return_inverse=True)
    return pa.array([encode(int(length)) for length in distinct], BINARY).take(pa.array(codes))


def binary(data: Bytes, lengths: Ints) -> pa.Array:
    """Return large_binary values that are stored one after the other in ``data``. Copies nothing."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return pa.Array.from_buffers(BINARY, len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _sparse(data: Bytes, lengths: Ints, kept: npt.NDArray[np.bool_]) -> pa.Array:
    """Return the values where ``kept``, and nothing where not."""
    if kept.all():
        return binary(data, lengths)
    return binary(data[np.repeat(kept, lengths)], np.where(kept, lengths, 0))


def _tag(field: str, wire: int) -> bytes:
    return varint(Value.DESCRIPTOR.fields_by_name[field].number << 3 | wire)


def _is_list(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow))


def _is_text(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow) or pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow))


def _is_bytes(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_binary(arrow) or pa.types.is_large_binary(arrow) or pa.types.is_binary_view(arrow))


def _fits(arrow: pa.DataType, value_type: ValueType) -> bool:
    """Return whether the fast path covers this column; ``value_type`` is a scalar one."""
    kinds: dict[ValueType, Callable[[pa.DataType], bool]] = {
        ValueType.BOOL: pa.types.is_boolean,
        ValueType.INT32: pa.types.is_integer,
        ValueType.INT64: pa.types.is_integer,
        ValueType.UNIX_TIMESTAMP: pa.types.is_timestamp,
        ValueType.FLOAT: lambda found: pa.types.is_float32(found) or pa.types.is_float64(found),
        ValueType.DOUBLE: pa.types.is_float64,
        ValueType.STRING: _is_text,
        ValueType.BYTES: _is_bytes,
    }
    return kinds[value_type](arrow)


def _scalars(column: pa.Array, value_type: ValueType) -> pa.Array:
    field, wire = _SCALARS[value_type]
    tag = _tag(field, wire)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    if wire == _LENGTH:
        return _texts(column, tag)
    if value_type in {ValueType.FLOAT, ValueType.DOUBLE}:
        # Nulls become NaN here, and both are encoded as nothing.
        floats = _floats(column.to_numpy(zero_copy_only=False), value_type)
        table = np.empty((len(floats), 1 + floats.itemsize), np.uint8)
        table[:, 0] = tag[0]
        table[:, 1:] = floats.view(np.uint8).reshape(len(floats), floats.itemsize)
        return _sparse(table.ravel(), np.full(len(floats), table.shape[1]), ~np.isnan(floats))
    if value_type is ValueType.UNIX_TIMESTAMP:
        ticks = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        a_second = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}[column.type.unit]
        known, numbers = np.ones_like(known), np.where(known, np.floor_divide(ticks, a_second), _NO_TIMESTAMP)
    else:
        target = pa.int32() if value_type is ValueType.INT32 else pa.int64()
        numbers = column.cast(target).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return _integers(numbers, known, tag[0])


def _floats(values: npt.NDArray[Any], value_type: ValueType) -> npt.NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):  # too big for a float32 is infinite, in protobuf too
        return np.ascontiguousarray(values, "<f4" if value_type is ValueType.FLOAT else "<f8")


def _integers(numbers: Ints, known: npt.NDArray[np.bool_], tag: int) -> pa.Array:
    least, most = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    if most - least < _SMALL_RANGE:
        # Few numbers: each is encoded once, and the rows refer to it. The last one is null.
        data, lengths = varints(np.arange(least, most + 1), tag)
        spelt = pa.concat_arrays([binary(data, lengths), pa.array([b""], BINARY)])
        codes = np.where(known, numbers - least, len(lengths)).astype(np.int32)
        return pa.DictionaryArray.from_arrays(codes, spelt)
    data, lengths = varints(numbers, tag)
    return _sparse(data, lengths, known)


def _texts(column: pa.Array, tag: bytes) -> pa.Array:
    column = column.cast(pa.large_string() if _is_text(column.type) else BINARY).cast(BINARY)
    if len(column) >= _SAMPLE_ROWS and len(column[:_SAMPLE_ROWS].unique()) < _SAMPLE_ROWS // 2:
        codes = column.dictionary_encode(null_encoding="encode")
        return pa.DictionaryArray.from_arrays(codes.indices, _framed(codes.dictionary, tag))
    return _framed(column, tag)


def _framed(column: pa.Array, tag: bytes) -> pa.Array:
    """Return tag, length and bytes of each value; nothing for a null."""
    lengths = pc.binary_length(column).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return join([by_length(lengths, lambda length: b"" if length < 0 else tag + varint(length)), column.fill_null(b"")])


def _lists(column: pa.Array, value_type: ValueType) -> pa.Array | None:
    """Return the encoded lists, or None where an element is null (Feast has its own rules for those)."""
    field, inner = _LISTS[value_type]
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.large_list(column.type.value_type))
    elements = column.flatten()  # without what a null list may hide
    if elements.null_count:
        return None
    data, widths = _elements(elements, inner)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    counts = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(widths)])[np.concatenate([[0], np.cumsum(counts)])]
    sizes = np.where(known, np.diff(ends), -1)
    tag = _tag(field, _LENGTH)
    packed = _SCALARS[inner][1] != _LENGTH

    def header(size: int) -> bytes:
        if size < 0:
            return b""
        if not packed or size == 0:
            return tag + varint(size)
        start = _LIST_FIELD + varint(size)
        return tag + varint(len(start) + size) + start

    return join([by_length(sizes, header), binary(data, np.maximum(sizes, 0))])


def _elements(elements: pa.Array, inner: ValueType) -> tuple[Bytes, Ints]:
    """Return the elements' bytes inside a list message, and the length of each."""
    if inner in {ValueType.FLOAT, ValueType.DOUBLE}:
        floats = _floats(elements.to_numpy(zero_copy_only=False), inner)
        return floats.view(np.uint8), np.full(len(floats), floats.itemsize)
    if inner in {ValueType.STRING, ValueType.BYTES}:
        text = elements.cast(pa.large_string() if _is_text(elements.type) else BINARY).cast(BINARY)
        spelt = _framed(text, _LIST_FIELD)
        data = b"".join(spelt.to_pylist()) if len(spelt) else b""
        return np.frombuffer(data, np.uint8), lengths_of(spelt)
    target = pa.int32() if inner is ValueType.INT32 else pa.int64()
    return varints(elements.cast(target).to_numpy(zero_copy_only=False))


def _through_feast(column: pa.Array, value_type: ValueType) -> pa.Array:
    values = python_values_to_proto_values(column.to_numpy(zero_copy_only=False), value_type)
    return pa.array([value.SerializeToString() for value in values], BINARY)
