"""Integer codes for join keys of any type: the search compares integers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.stores.point_in_time.latest_known_rows import Ints


@dataclass(frozen=True)
class KeyCodes:
    """Codes from 0 for the distinct keys of some rows; a key has one column or several.

    ``values`` holds the distinct values of each column. ``pairs`` holds, from the second column on, the distinct pairs
    of (code so far, value's number), packed and ascending: the code of a longer key is its pair's index.
    """

    values: tuple[pa.Array, ...]
    pairs: tuple[Ints, ...]

    @staticmethod
    def of(columns: Sequence[pa.ChunkedArray]) -> KeyCodes:
        """Assign a code to each distinct key of ``columns``; a key with a null in it gets none."""
        values = tuple(column.unique().drop_null() for column in columns)
        pairs: list[Ints] = []
        code = _numbers(columns[0], values[0])
        for column, known in zip(columns[1:], values[1:], strict=True):
            packed = _packed(code, _numbers(column, known), len(known))
            pairs.append(np.unique(packed[packed >= 0]))
            code = _places(packed, pairs[-1])
        return KeyCodes(values, tuple(pairs))

    def __len__(self) -> int:
        return len(self.pairs[-1]) if self.pairs else len(self.values[0])

    def code(self, columns: Sequence[pa.ChunkedArray]) -> Ints:
        """Return the code of each row's key, -1 for an unknown key."""
        code = _numbers(columns[0], self.values[0])
        for column, known, pairs in zip(columns[1:], self.values[1:], self.pairs, strict=True):
            code = _places(_packed(code, _numbers(column, known), len(known)), pairs)
        return code


def _numbers(column: pa.ChunkedArray, known: pa.Array) -> Ints:
    # One call for the whole column: each call hashes the known values again.
    found = pc.fill_null(pc.index_in(column, known), -1)
    return np.asarray(found.to_numpy(), dtype=np.int64)


def _packed(code: Ints, number: Ints, size: int) -> Ints:
    return np.where((code >= 0) & (number >= 0), code * size + number, -1)


def _places(packed: Ints, known: Ints) -> Ints:
    if not len(known):
        return np.full(len(packed), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(known, packed), len(known) - 1)
    return np.where(known[place] == packed, place, -1)
