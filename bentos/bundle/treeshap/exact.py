"""Exact path-dependent TreeSHAP by tables of condition outcomes, computed once at load. Pure.

TreeSHAP (Lundberg et al. 2020, algorithm 1) values a feature by what a tree expects with and without knowing it, where
an unknown feature sends a customer down both branches in the shares of the training rows (XGBoost's ``sum_hessian``).
The tree's expectation is a sum over leaves, and for one leaf it is a product over the distinct columns on its path: 1
or 0 if the column is known (all its conditions on the path hold, or not), else the product r of its branches' shares.
So the Shapley values of a leaf depend only on which of its conditions hold, and there are few: all cases are computed
when the model is loaded, and a customer's explanation is a sum of looked-up rows.

A *unit* is a tree, or a subtree below some ancestors, with at most eight conditions in all: which of them hold is one
byte, and the unit's table has a row for each value of it. See docs/decisions/0023-trees-as-tables.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import factorial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CONDITIONS_MAX: Final = 8
"""Most conditions of a unit: their outcomes fill one byte."""
Path = tuple[tuple[int, int], ...]
"""Path from the root to a leaf: (node, branch taken), branch 0 is left."""


class TreesUnsupportedError(ValueError):
    """Trees that the tables can't hold: too deep, or with other than numeric splits."""


@dataclass(frozen=True)
class Tree:
    """One tree of XGBoost's JSON, as arrays over its nodes.

    A leaf has no children; its ``threshold`` is its value. A row goes left at a node if ``column`` < ``threshold``, in
    float32. ``cover`` is the sum of hessians of the training rows that reached the node.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    column: tuple[int, ...]
    threshold: NDArray[np.float32]
    cover: Floats

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Tree:
        """Read a tree. Raises TreesUnsupportedError for splits by category."""
        if any(content.get("split_type", ())) or content.get("categories"):
            raise TreesUnsupportedError("the trees split by category")
        return cls(
            tuple(content["left_children"]),
            tuple(content["right_children"]),
            tuple(content["split_indices"]),
            np.array(content["split_conditions"], dtype=np.float32),
            np.array(content["sum_hessian"], dtype=np.float64),
        )

    def is_leaf(self, node: int) -> bool:
        """Return whether a node is a leaf."""
        return self.left[node] < 0

    def leaves(self, node: int = 0, path: Path = ()) -> Iterator[tuple[int, Path]]:
        """Yield the leaves below ``node``, left to right, with their paths; ``path`` leads to ``node``."""
        if self.is_leaf(node):
            yield node, path
        else:
            yield from self.leaves(self.left[node], (*path, (node, 0)))
            yield from self.leaves(self.right[node], (*path, (node, 1)))

    def share(self, node: int, branch: int) -> float:
        """Return the share of the training rows at ``node`` that took the branch."""
        child = self.right[node] if branch else self.left[node]
        return float(self.cover[child] / self.cover[node])

    def inner(self, node: int) -> int:
        """Return the number of conditions at or below ``node``."""
        return 0 if self.is_leaf(node) else 1 + self.inner(self.left[node]) + self.inner(self.right[node])


@dataclass(frozen=True)
class Unit:
    """Up to eight conditions of one tree, with the leaf values and contributions of each outcome.

    ``columns`` and ``thresholds`` (c,): condition i holds if the column >= the threshold. ``reached`` (2^c,) float32:
    the value of the leaf that is reached, 0 where it lies in another unit of the tree. ``added`` maps a column to
    (2^c,): its Shapley value. Rows go by outcome, condition i being bit i. ``expected`` is the part of the tree's mean.
    """

    columns: tuple[int, ...]
    thresholds: NDArray[np.float32]
    leaf_values: NDArray[np.float32]
    added: Mapping[int, Floats]
    expected: float


def units(tree: Tree) -> Iterator[Unit]:
    """Yield the units of a tree. Raises TreesUnsupportedError if it is too deep."""
    for node, ancestors in _parts(tree, 0, ()):
        yield _unit(tree, node, ancestors)


def _parts(tree: Tree, node: int, ancestors: Path) -> Iterator[tuple[int, Path]]:
    if len(ancestors) + tree.inner(node) <= CONDITIONS_MAX:
        yield node, ancestors
    elif len(ancestors) == CONDITIONS_MAX:
        raise TreesUnsupportedError(f"a tree is deeper than {CONDITIONS_MAX}")
    else:
        yield from _parts(tree, tree.left[node], (*ancestors, (node, 0)))
        yield from _parts(tree, tree.right[node], (*ancestors, (node, 1)))


def _unit(tree: Tree, node: int, ancestors: Path) -> Unit:
    leaves = list(tree.leaves(node, ancestors))
    conditions = list(dict.fromkeys(each for _, path in leaves for each, _ in path))
    bit = {each: place for place, each in enumerate(conditions)}
    outcomes = np.arange(1 << len(conditions))
    holds = {(each, branch): (outcomes >> bit[each] & 1) == branch for each in conditions for branch in (0, 1)}
    reached = np.zeros(len(outcomes), np.float32)
    added: dict[int, Floats] = {}
    expected = 0.0
    for leaf, path in leaves:
        value = float(tree.threshold[leaf])
        known: dict[int, Bools] = {}
        share: dict[int, float] = {}
        for each, branch in path:
            column, held = tree.column[each], holds[each, branch]
            known[column] = known[column] & held if column in known else held
            share[column] = share.get(column, 1.0) * tree.share(each, branch)
        everything = np.logical_and.reduce(list(known.values())) if known else np.ones(len(outcomes), np.bool_)
        reached[everything] = tree.threshold[leaf]
        expected += value * float(np.prod(list(share.values())))
        for column, weight in _shapley(known, share).items():
            added[column] = added.get(column, 0.0) + value * weight
    thresholds = tree.threshold[conditions] if conditions else np.empty(0, np.float32)
    return Unit(tuple(tree.column[each] for each in conditions), thresholds, reached, added, expected)


def _shapley(known: Mapping[int, Bools], share: Mapping[int, float]) -> dict[int, Floats]:
    """Return each column's Shapley value of v(S) = prod over S of known * prod over the rest of share.

    For column j the sum over subsets S of the other k - 1 columns, |S|! (k - 1 - |S|)! / k! each, is taken by size: the
    coefficients of the polynomial that is the product over the others of (share + known z) add up what S of one size
    contribute.
    """
    count = len(known)
    weights = [factorial(size) * factorial(count - 1 - size) / factorial(count) for size in range(count)]
    values = {}
    for column, own in known.items():
        by_size = np.zeros((count, len(own)))
        by_size[0] = 1.0
        for other, held in known.items():
            if other != column:
                by_size[1:] = by_size[1:] * share[other] + by_size[:-1] * held
                by_size[0] *= share[other]
        values[column] = (own - share[column]) * (weights @ by_size)
    return values
