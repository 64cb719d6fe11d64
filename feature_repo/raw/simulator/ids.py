"""Generation of customer ids, event ids and ticket ids from numbers; unique by construction."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

DIGITS: Final = 10**4
LETTERS: Final = 26**5
IDS: Final = DIGITS * LETTERS
"""Number of different customer ids."""
_STRIDE: Final = 48_271 * 1_000_003
"""Coprime to 10^4 x 26^5, so that its multiples give every id once before one recurs."""
_HALF: Final = 1 << 18
_HEX: Final = np.frombuffer("".join(f"{value:04x}" for value in range(1 << 16)).encode(), np.uint32)
_HEX_CHARS: Final = 16


def customer_ids(numbers: NDArray[np.int64], seed: int) -> NDArray[np.bytes_]:
    """Return customer ids by number (0, 1, ...), ``(n,)`` S10, in the format of the real file."""
    # In two halves: the whole product would overflow int64.
    high, low = numbers // _HALF, numbers % _HALF
    code = ((seed + 1) % IDS + high * (_STRIDE * _HALF % IDS) % IDS + low * _STRIDE % IDS) % IDS
    signs = np.empty((len(numbers), 10), np.uint8)
    rest = code % DIGITS
    for place in (3, 2, 1, 0):
        signs[:, place] = ord("0") + rest % 10
        rest //= 10
    signs[:, 4] = ord("-")
    rest = code // DIGITS
    for place in range(5, 10):
        signs[:, place] = ord("A") + rest % 26
        rest //= 26
    return signs.reshape(-1).view("S10")


def opaque_ids(numbers: NDArray[np.uint64], salt: int) -> Any:
    """Return 16 hexadecimal digits per number as a pyarrow string array.

    The mixing is a bijection of 64 bits (the finaliser of SplitMix64; Steele, Lea, Flood 2014), so that different
    numbers give different ids.
    """
    import pyarrow as pa

    mixed = numbers + np.uint64(salt)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    signs = _HEX[mixed.view(np.uint16)]
    ends = np.arange(len(numbers) + 1, dtype=np.int32) * _HEX_CHARS
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(ends), pa.py_buffer(signs))
