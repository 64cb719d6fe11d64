"""Redis commands of whole batches, encoded in its wire protocol (RESP 2). Pure.

A batch becomes one run of bytes, so that Python handles a column and never a value. Columns whose values repeat (flags,
categories, small numbers, the event timestamp) are encoded together: each combination that occurs once, and the rows
refer to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.stores.wire.value_encoder import BINARY, by_length, join, lengths_of

_END: Final = b"\r\n"
_MOST_COMBINATIONS: Final = 8192


def bulk(text: bytes) -> bytes:
    """Return one argument as a RESP bulk string."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def bulks(column: pa.Array) -> pa.Array:
    """Return one encoded argument per row; ``column`` is large_binary without nulls."""
    return join([by_length(lengths_of(column), b"$%d\r\n".__mod__), column, pa.scalar(_END, BINARY)])


def hset(keys: pa.Array, fields: Mapping[bytes, pa.Array], expire_s: int | None = None) -> pa.Array:
    """Return an HSET of all fields per row, followed by EXPIRE if ``expire_s`` is given.

    ``keys`` are encoded by :func:`bulks`; ``fields`` are results of ``encode_values``, field name -> values.
    """
    words = 2 + 2 * len(fields)
    parts: list[Any] = [pa.scalar(b"*%d\r\n$4\r\nHSET\r\n" % words, BINARY), keys]
    repeating = {name: values for name, values in fields.items() if pa.types.is_dictionary(values.type)}
    parts.extend(map(_together, _groups(repeating)))
    end = b""
    for name, values in fields.items():
        if name not in repeating:
            start = (end + bulk(name)).replace(b"%", b"%%")
            parts += [by_length(lengths_of(values), (start + b"$%d\r\n").__mod__), values]
            end = _END
    if expire_s:
        parts += [pa.scalar(end + b"*3\r\n$6\r\nEXPIRE\r\n", BINARY), keys, pa.scalar(bulk(b"%d" % expire_s), BINARY)]
    elif end:
        parts.append(pa.scalar(end, BINARY))
    return join(parts)


def hmget(keys: pa.Array, fields: Sequence[bytes]) -> pa.Array:
    """Return an HMGET of the fields per row."""
    start = pa.scalar(b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(fields)), BINARY)
    return join([start, keys, pa.scalar(b"".join(map(bulk, fields)), BINARY)])


def stream(commands: pa.Array) -> memoryview:
    """Return the bytes of all rows, one after the other. Copies nothing."""
    _, offsets, data = commands.buffers()
    bounds = np.frombuffer(offsets, np.int64)[[commands.offset, commands.offset + len(commands)]]
    return memoryview(data)[bounds[0] : bounds[1]] if data is not None else memoryview(b"")


def _groups(repeating: Mapping[bytes, pa.Array]) -> list[dict[bytes, pa.Array]]:
    """Group columns as long as their combinations stay few; those with few values first."""
    groups: list[dict[bytes, pa.Array]] = []
    combinations = 1
    for name, values in sorted(repeating.items(), key=lambda field: len(field[1].dictionary)):
        size = max(1, len(values.dictionary))
        if not groups or combinations * size > _MOST_COMBINATIONS:
            groups.append({})
            combinations = 1
        groups[-1][name] = values
        combinations *= size
    return groups


def _together(group: Mapping[bytes, pa.Array]) -> pa.Array:
    """Return names and values of the group's fields per row, encoded once per combination that occurs."""
    codes: npt.NDArray[np.int64] | None = None
    for values in group.values():
        indices = values.indices.to_numpy(zero_copy_only=False)
        codes = indices.astype(np.int64) if codes is None else codes * len(values.dictionary) + indices
    assert codes is not None  # noqa: S101 - a group is never empty
    counts = np.bincount(codes)
    distinct = np.flatnonzero(counts)
    places = (np.cumsum(counts > 0) - 1)[codes]
    spelt: list[list[Any]] = []
    for name, values in reversed(list(group.items())):
        distinct, index = np.divmod(distinct, len(values.dictionary))
        arguments = bulks(values.dictionary.take(pa.array(index)))
        spelt.append([pa.scalar(bulk(name), BINARY), arguments])
    return join(list(chain.from_iterable(spelt))).take(pa.array(places))
