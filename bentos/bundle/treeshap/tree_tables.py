"""Boosted trees compiled to tables: margins bit-identical to XGBoost's, and exact TreeSHAP by look-up.

Used by :class:`bentos.bundle.components.TreeComponent`. See docs/decisions/0023-trees-as-tables.md.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from bentos.bundle.treeshap.columnwise import LARGE_FROM_ROWS, ColumnUnit, Columnwise
from bentos.bundle.treeshap.exact import CONDITIONS_MAX, Floats, Tree, TreesUnsupportedError, Unit, units
from bentos.bundle.treeshap.small_batches import SMALL_FROM_ROWS, SmallBatches

if TYPE_CHECKING:
    from xgboost import Booster

FloatTable = NDArray[np.float32]
NodeTable = NDArray[np.int32]

log = logging.getLogger(__name__)

TABLE_MAX_BYTES: Final = 512 * 1024 * 1024
DIFFERENCE_MAX: Final = 1e-4
"""Largest difference in log-odds between the tables' contributions and XGBoost's, which adds in float32."""
PROBES: Final = 64
CHUNK: Final = 512
"""Customers per block: the outcomes of all conditions stay in the processor's cache."""
_GATHER: Final = np.uint64(0x0102040810204080)
_TOP_BYTE: Final = np.uint64(56)
"""Factor that packs eight bytes of 0 or 1, read as one number, into the eight bits of the product's top byte: byte i,
worth 2^8i, meets the factor's 2^(56 - 7i) at bit 56 + i, and no other two meet there.
"""


@dataclass(frozen=True)
class TreeTables:
    """Trees that score and explain by table look-up.

    q distinct conditions ``columns >= thresholds`` (q,); u units, whose bits are ``bits`` (8, u), indices of the
    conditions or q for none, and whose rows of the tables begin at ``offsets`` (u,). ``reached`` (r,) float32 holds
    leaf values, ``added`` (r, s) contributions in log-odds to the few features of the row's unit; ``features`` (u, s)
    names them by index among the ``wide`` (f) features, and unused slots add 0 to the first. ``start`` is the margin
    before the first tree, ``base`` the margin of the average training row.
    """

    columns: NDArray[np.intp]
    thresholds: FloatTable
    bits: NDArray[np.intp]
    offsets: NodeTable
    leaf_values: FloatTable
    added: Floats
    features: NDArray[np.intp]
    n_features: int
    start: np.float32
    base: float
    shallow: bool
    """Whether each tree is one unit."""

    @classmethod
    def of(cls, booster: Booster, weights: Floats) -> Self:
        """Compile a booster; ``weights`` (k columns, f features) distribute column contributions to features.

        Raises
        ------
        TreesUnsupportedError
            If the trees are too deep or too many for tables, or not plain numeric trees with one margin.
        """
        trees, start = _read(booster)
        parts = [part for tree in trees for part in units(tree)]
        sizes = [len(part.leaf_values) for part in parts]
        owned = [np.flatnonzero(weights[list(part.added)].any(axis=0)) for part in parts]
        slots = max(1, *(len(each) for each in owned))
        if sum(sizes) * slots * 8 > TABLE_MAX_BYTES:
            raise TreesUnsupportedError(f"the tables of {len(trees)} trees would exceed {TABLE_MAX_BYTES >> 20} MiB")
        conditions = sorted({each for part in parts for each in _conditions(part)})
        place = {each: index for index, each in enumerate(conditions)}
        bits = np.full((CONDITIONS_MAX, len(parts)), len(conditions), np.intp)
        for unit, part in enumerate(parts):
            for bit, each in enumerate(_conditions(part)):
                bits[bit, unit] = place[each]
        return cls(
            np.array([column for column, _ in conditions], np.intp),
            np.array([threshold for _, threshold in conditions], np.float32),
            bits,
            np.cumsum([0, *sizes[:-1]], dtype=np.int32),
            np.concatenate([part.leaf_values for part in parts]),
            np.concatenate([_added(part, weights, own, slots) for part, own in zip(parts, owned, strict=True)]),
            np.array([[*own, *[0] * (slots - len(own))] for own in owned], np.intp),
            weights.shape[1],
            start,
            float(start) + math.fsum(part.expected for part in parts),
            len(parts) == len(trees),
        )

    def probes(self, count: int, seed: int = 0) -> FloatTable:
        """Return rows to test the tables on, (count, k): values at a threshold of the column, or just below."""
        random = np.random.default_rng(seed)
        rows = np.zeros((count, int(self.columns.max(initial=-1)) + 1), np.float32)
        for column in range(rows.shape[1]):
            at = self.thresholds[self.columns == column]
            if len(at):
                drawn = random.choice(at, count)
                rows[:, column] = np.where(
                    random.random(count) < 1 / 2, drawn, np.nextafter(drawn, np.float32(-np.inf))
                )
        return rows

    def margin(self, columns: FloatTable) -> Floats:
        """Return the log-odds margin, (n,) float64, of (n, k) finite columns, bit-identical to XGBoost's."""
        if len(columns) < SMALL_FROM_ROWS:
            return self._margin(self._rows(columns))
        if len(columns) <= CHUNK:
            return self.small_batches.margin(columns)
        return np.concatenate([self.margin(chunk) for chunk in _chunks(columns)])

    def explain(self, columns: FloatTable) -> tuple[Floats, Floats]:
        """Return the margin (n,) and the contributions (n, f): base + contributions.sum(axis=1) is the margin.

        A customer's numbers are bit-identical alone and in a batch.
        """
        if len(columns) >= LARGE_FROM_ROWS:
            return self.columnwise.explain(columns)
        if len(columns) >= SMALL_FROM_ROWS:
            return self.small_batches.explain(columns)
        return self.explain_rows(columns)

    def explain_rows(self, columns: FloatTable) -> tuple[Floats, Floats]:
        """Return what :meth:`explain` does, customer by customer: the layout for one and for a few."""
        rows = self._rows(columns)
        return self._margin(rows), self._sum(rows)

    @cached_property
    def columnwise(self) -> Columnwise:
        """The same tables in the layout for large batches."""
        units = [ColumnUnit(self.leaf_values[own], tuple(added)) for own, added in self._cut()]
        bits = np.ascontiguousarray(self.bits.T)
        return Columnwise(self.columns, self.thresholds, bits, tuple(units), self.n_features, self.start)

    @cached_property
    def small_batches(self) -> SmallBatches:
        """The same tables in the layout for small batches."""
        return SmallBatches.of(
            [(unit, feature, values) for unit, (_, added) in enumerate(self._cut()) for feature, values in added],
            self.columns,
            self.thresholds,
            self.bits,
            self.offsets,
            self.leaf_values,
            self.n_features,
            self.start,
        )

    def _cut(self) -> list[tuple[slice, list[tuple[int, Floats]]]]:
        """Return each unit's rows of the tables, and its features with their contributions."""
        ends = [*self.offsets[1:].tolist(), len(self.leaf_values)]
        cut = [slice(start, end) for start, end in zip(self.offsets.tolist(), ends, strict=True)]
        return [
            (own, _columns(self.added[own], places.tolist())) for own, places in zip(cut, self.features, strict=True)
        ]

    def _rows(self, columns: FloatTable) -> NodeTable:
        """Return the row of the tables of each customer in each unit, (n, u)."""
        held = np.zeros((len(columns), len(self.thresholds) + 1), np.bool_)
        np.greater_equal(columns.take(self.columns, axis=1), self.thresholds, out=held[:, :-1])
        eights = held.take(self._flat_bits, axis=1).view("<u8")
        outcomes = np.right_shift(np.multiply(eights, _GATHER, out=eights), _TOP_BYTE, out=eights)
        rows = np.empty(outcomes.shape, np.int32)
        np.add(outcomes, self.offsets, out=rows, casting="unsafe")
        return rows

    @cached_property
    def _flat_bits(self) -> NDArray[np.intp]:
        return np.ascontiguousarray(self.bits.T).ravel()

    def _margin(self, rows: NodeTable) -> Floats:
        # One float32 addition after the other, as XGBoost does it: another order would differ in the last digits.
        steps = np.empty((rows.shape[1] + 1, len(rows)), np.float32)
        steps[0] = self.start
        steps[1:] = self.leaf_values.take(rows.T)
        return np.asarray(np.cumsum(steps, axis=0, dtype=np.float32)[-1], dtype=np.float64)

    def _sum(self, rows: NodeTable) -> Floats:
        """Return the sum of each customer's rows of contributions, (n, f), added in the order of the units."""
        count, wide = len(rows), self.n_features
        places = self.features.ravel()
        if count != 1:
            places = (places + wide * np.arange(count)[:, None]).ravel()
        chosen = self.added.take(rows.ravel(), axis=0).ravel()
        summed: Floats = np.bincount(places, chosen, count * wide).astype(np.float64, copy=False)
        return summed.reshape(count, wide)


def _columns(added: Floats, places: list[int]) -> list[tuple[int, Floats]]:
    """Return a unit's features with their contributions; unused slots of its rows add nothing."""
    return [(place, np.ascontiguousarray(added[:, slot])) for slot, place in enumerate(places) if added[:, slot].any()]


def _read(booster: Booster) -> tuple[list[Tree], np.float32]:
    """Return the booster's trees and the margin before the first of them."""
    content: dict[str, Any] = json.loads(bytes(booster.save_raw("json")))
    model = content["learner"]["gradient_booster"]
    if model.get("name") != "gbtree" or content["learner"]["objective"]["name"] != "binary:logistic":
        raise TreesUnsupportedError("only trees of binary:logistic have tables")
    trees = [Tree.of(each) for each in model["model"]["trees"]]
    if not trees:
        raise TreesUnsupportedError("there are no trees")
    return trees, _start(content)


def _start(content: dict[str, Any]) -> np.float32:
    """Return the margin before the first tree, from this build of XGBoost with a tree that adds 0.

    The logarithm of the base score may differ: builds round its last bit differently, and rows at which that
    shows are too few for the probes.
    """
    from xgboost import Booster, DMatrix

    first = content["learner"]["gradient_booster"]["model"]["trees"][0]
    leaf = [child == -1 for child in first["left_children"]]
    first["split_conditions"] = [
        0.0 if ends else value for ends, value in zip(leaf, first["split_conditions"], strict=True)
    ]
    emptied = Booster({"nthread": 1}, model_file=bytearray(json.dumps(content).encode()))
    row = DMatrix(np.zeros((1, emptied.num_features()), np.float32), nthread=1)
    return np.float32(emptied.predict(row, output_margin=True, iteration_range=(0, 1))[0])


def compile_verified(booster: Booster, weights: Floats) -> TreeTables | None:
    """Compile a booster and verify the tables against XGBoost at its thresholds; None if there are none.

    The margins must be XGBoost's to the bit, the contributions `pred_contribs`' within DIFFERENCE_MAX.
    """
    from xgboost import DMatrix

    try:
        tables = TreeTables.of(booster, weights)
    except TreesUnsupportedError as why:
        log.warning("trees are explained by XGBoost itself, more slowly: %s", why)
        return None
    rows = np.zeros((PROBES, booster.num_features()), np.float32)
    found = tables.probes(PROBES)
    rows[:, : found.shape[1]] = found
    data = DMatrix(rows, nthread=1)
    margins = booster.predict(data, output_margin=True)
    # All layouts are checked, so that none is trusted because of another.
    ways = (tables.explain_rows(rows), tables.small_batches.explain(rows), tables.columnwise.explain(rows))
    if not all(np.array_equal(each, margins) for each, _ in ways):
        log.warning("trees are scored by XGBoost itself, more slowly: the tables' margins differ from its own")
        return None
    peer = np.asarray(booster.predict(data, pred_contribs=True), dtype=np.float64)
    beside = np.max(
        [*(np.abs(added - peer[:, :-1] @ weights).max() for _, added in ways), abs(tables.base - peer[0, -1])]
    )
    if not beside <= DIFFERENCE_MAX:
        log.warning("trees are explained by XGBoost itself, more slowly: the tables differ from it by %.1e", beside)
        return None
    return tables


def _conditions(part: Unit) -> list[tuple[int, float]]:
    return list(zip(part.columns, part.thresholds.tolist(), strict=True))


def _added(part: Unit, weights: Floats, own: NDArray[np.intp], slots: int) -> Floats:
    table = np.zeros((len(part.leaf_values), slots))
    for column, values in part.added.items():
        table[:, : len(own)] += values[:, None] * weights[column, own]
    return table


def _chunks(columns: FloatTable) -> list[FloatTable]:
    return [columns[start : start + CHUNK] for start in range(0, len(columns), CHUNK)] or [columns]
