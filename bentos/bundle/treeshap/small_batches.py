"""Evaluation of tree tables for small batches: all units at once, customers along the rows of memory.

:class:`~bentos.bundle.treeshap.tree_tables.TreeTables` goes customer by customer, which is the fastest for one, and
:class:`~bentos.bundle.treeshap.columnwise.Columnwise` unit by unit, which is the fastest for thousands. Here every step
is one NumPy call over (units or entries, customers), so that each call adds or looks up whole rows of customers. The
same numbers are added in the same order, so the results are bit-identical.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from bentos.bundle.treeshap.exact import CONDITIONS_MAX, Floats

FloatTable = NDArray[np.float32]
NodeTable = NDArray[np.int32]

SMALL_FROM_ROWS: Final = 8
"""Number of customers from which it is faster. Fewer would also be added in another order: NumPy sums a single column
pairwise.
"""


@dataclass(frozen=True)
class SmallBatches:
    """The tables of a TreeTables, cut by unit and feature. Made by its property ``small_batches``.

    The names are those of TreeTables; ``bits`` is (8, u). An entry is a unit's contributions to one feature: the e
    entries are sorted by feature, then unit; ``units`` (e,) names their units, ``added`` (v,) holds their values one
    entry after the other, and ``shifts`` (e,) leads from a row of the unit's table to the entry's value. ``owned`` are
    the features with the slice of their entries.
    """

    columns: NDArray[np.intp]
    thresholds: FloatTable
    bits: NDArray[np.intp]
    offsets: NodeTable
    reached: FloatTable
    units: NDArray[np.intp]
    shifts: NodeTable
    added: Floats
    owned: tuple[tuple[int, slice], ...]
    wide: int
    start: np.float32

    @classmethod
    def of(
        cls,
        entries: Sequence[tuple[int, int, Floats]],
        columns: NDArray[np.intp],
        thresholds: FloatTable,
        bits: NDArray[np.intp],
        offsets: NodeTable,
        reached: FloatTable,
        wide: int,
        start: np.float32,
    ) -> Self:
        """Lay the tables out; ``entries`` are (unit, feature, the contributions of the unit's rows)."""
        entries = sorted(entries, key=lambda entry: (entry[1], entry[0]))
        units = np.array([unit for unit, _, _ in entries], np.intp)
        places = np.cumsum([0, *(len(values) for _, _, values in entries)])
        features = [feature for _, feature, _ in entries]
        firsts = [index for index, each in enumerate(features) if index == 0 or features[index - 1] != each]
        ends = [*firsts, len(entries)][1:]  # none where no tree has a split
        return cls(
            columns,
            thresholds,
            bits,
            offsets,
            reached,
            units,
            (places[:-1] - offsets[units]).astype(np.int32),
            np.concatenate([values for _, _, values in entries]) if entries else np.empty(0),
            tuple((features[first], slice(first, end)) for first, end in zip(firsts, ends, strict=True)),
            wide,
            start,
        )

    def margin(self, columns: FloatTable) -> Floats:
        """Return the log-odds margin, (n,) float64, of (n, k) finite columns."""
        return self._margin(self._rows(columns))

    def explain(self, columns: FloatTable) -> tuple[Floats, Floats]:
        """Return the margin (n,) and the contributions (n, f): see TreeTables.explain."""
        rows = self._rows(columns)
        return self._margin(rows), self._sums(rows)

    def _rows(self, columns: FloatTable) -> NodeTable:
        """Return the row of the tables of each customer in each unit, (u, n)."""
        held = np.zeros((len(self.thresholds) + 1, len(columns)), np.uint8)
        values = np.ascontiguousarray(columns.T).take(self.columns, axis=0)
        np.greater_equal(values, self.thresholds[:, None], out=held[:-1].view(np.bool_))
        outcomes = held.take(self.bits[0], axis=0)
        for bit in range(1, CONDITIONS_MAX):
            ones = held.take(self.bits[bit], axis=0)
            outcomes |= np.left_shift(ones, np.uint8(bit), out=ones)
        return np.asarray(np.add(outcomes, self.offsets[:, None], dtype=np.int32))

    def _margin(self, rows: NodeTable) -> Floats:
        steps = np.empty((len(rows) + 1, rows.shape[1]), np.float32)
        steps[0] = self.start
        self.reached.take(rows, out=steps[1:], mode="clip")  # no row lies outside: "clip" avoids a check of each
        # Row by row, as XGBoost adds tree by tree.
        return np.asarray(np.add.reduce(steps, axis=0), dtype=np.float64)

    def _sums(self, rows: NodeTable) -> Floats:
        places = rows.take(self.units, axis=0)
        places += self.shifts[:, None]
        chosen = self.added.take(places, mode="clip")
        sums = np.zeros((self.wide, rows.shape[1]))
        for feature, own in self.owned:
            np.add.reduce(chosen[own], axis=0, out=sums[feature])
        return np.ascontiguousarray(sums.T)
