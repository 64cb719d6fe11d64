"""Base-128 varints of Protocol Buffers, for whole columns at once. Pure."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
_MOST: Final = 10
"""Bytes of the longest varint: 64 bits, 7 per byte. A negative number always takes all of them."""


def varints(values: npt.NDArray[Any], tag: int | None = None) -> tuple[Bytes, Ints]:
    """Return the bytes of all values one after the other, and the length of each (bytes).

    ``values`` are int64, int32 or bool, no nulls; negative ones become their two's complement in 64 bits, as protobuf's
    int32 and int64 do. With ``tag``, that byte precedes each. Source: the protobuf encoding guide.
    """
    unsigned = values.astype(np.int64).view(np.uint64)
    lengths = np.ones(len(unsigned), np.int64)
    for septet in range(1, _MOST):
        longer = unsigned >= np.uint64(1 << 7 * septet)
        if not longer.any():
            break
        lengths += longer
    longest = int(lengths.max(initial=1))
    first = 0 if tag is None else 1
    table = np.empty((len(unsigned), first + longest), np.uint8)
    if tag is not None:
        table[:, 0] = tag
    for place in range(longest):
        septets = (unsigned >> np.uint64(7 * place)).astype(np.uint8) & 0x7F
        table[:, first + place] = septets | ((lengths > place + 1).astype(np.uint8) << 7)
    lengths = lengths + first
    if longest == 1:
        return table.ravel(), lengths
    return table[np.arange(first + longest) < lengths[:, None]], lengths


def varint(value: int) -> bytes:
    """Return one non-negative number, below 2**63, as a varint."""
    return varints(np.array([value]))[0].tobytes()
