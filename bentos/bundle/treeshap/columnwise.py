"""Column-wise evaluation of tree tables for large batches: tree by tree over all customers.

:class:`~bentos.bundle.treeshap.tree_tables.TreeTables` goes customer by customer. The same numbers are added in the
same order, so the results are bit-identical; only the memory access differs: here a tree's small table stays in the
processor's cache while thousands of customers are looked up in it, and each of its features is one column to add to.
The cost is a few calls per tree, however few the customers are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bentos.bundle.treeshap.exact import CONDITIONS_MAX, Floats

FloatTable = NDArray[np.float32]
Bytes = NDArray[np.uint8]

LARGE_FROM_ROWS: Final = 768
"""Number of customers from which column-wise evaluation is faster."""
CHUNK: Final = 4096
"""Customers per block: their outcomes of all conditions, and a column of contributions, stay in the cache."""
_GROUP: Final = 16
"""Units whose outcome bytes are computed together."""
_BIT: Final = np.arange(CONDITIONS_MAX, dtype=np.uint8)[None, :, None]


@dataclass(frozen=True)
class ColumnUnit:
    """``reached`` (2^c,) leaf values; ``added`` feature positions, each with its contributions (2^c,)."""

    leaf_values: FloatTable
    added: tuple[tuple[int, Floats], ...]


@dataclass(frozen=True)
class Columnwise:
    """The tables of a TreeTables, cut by unit and feature. Made by its property ``columnwise``.

    The names are those of TreeTables; ``bits`` is (u, 8). It keeps no reference to the trees, which reference it: a
    reference cycle is freed by the garbage collector alone, and the memory of a service that swaps models would grow.
    """

    columns: NDArray[np.intp]
    thresholds: FloatTable
    bits: NDArray[np.intp]
    units: tuple[ColumnUnit, ...]
    n_features: int
    start: np.float32

    def explain(self, columns: FloatTable) -> tuple[Floats, Floats]:
        """Return the margin (n,) and the contributions (n, f) of (n, k) finite columns: see TreeTables.explain."""
        margin = np.empty(len(columns))
        added = np.empty((len(columns), self.n_features))
        for start in range(0, len(columns), CHUNK):
            some = slice(start, start + CHUNK)
            self._explain(columns[some], margin[some], added[some])
        return margin, added

    def _explain(self, columns: FloatTable, margin: Floats, added: Floats) -> None:
        count = len(columns)
        held = self._held(columns)
        total = np.full(count, self.start, np.float32)
        sums = np.zeros((self.n_features, count))
        place, value, leaf = np.empty(count, np.intp), np.empty(count), np.empty(count, np.float32)
        for first in range(0, len(self.units), _GROUP):
            for unit, outcomes in zip(self.units[first : first + _GROUP], self._outcomes(held, first), strict=True):
                np.copyto(place, outcomes)
                # Each outcome is a row of the table: "clip" changes none, and avoids a bounds check before each.
                total += unit.leaf_values.take(place, out=leaf, mode="clip")
                for feature, contributions in unit.added:
                    sums[feature] += contributions.take(place, out=value, mode="clip")
        margin[:] = total
        added[:] = sums.T

    def _held(self, columns: FloatTable) -> Bytes:
        """Return for each condition, and last for the constant 0, whether it holds: (q + 1, n) of 0 or 1."""
        held: Bytes = np.zeros((len(self.thresholds) + 1, len(columns)), np.uint8)
        values = np.ascontiguousarray(columns.T).take(self.columns, axis=0)
        np.greater_equal(values, self.thresholds[:, None], out=held[:-1].view(np.bool_))
        return held

    def _outcomes(self, held: Bytes, first: int) -> Any:
        """Return the outcome bytes of the group of units that begins with ``first``, (units, n)."""
        bits = self.bits[first : first + _GROUP]
        ones = held.take(bits.ravel(), axis=0).reshape(*bits.shape, -1)
        return np.bitwise_or.reduce(np.left_shift(ones, _BIT, out=ones), axis=1)
