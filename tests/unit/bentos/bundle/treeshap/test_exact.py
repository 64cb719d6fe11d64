"""The tables' Shapley values are those of the definition: over every order in which features become known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bentos.bundle.treeshap.exact import CONDITIONS_MAX, Tree, TreesUnsupportedError, units


def tree_of(nodes):
    """A tree from rows (left, right, column, threshold or leaf value, cover)."""
    left, right, column, threshold, cover = zip(*nodes, strict=True)
    return Tree(left, right, column, np.array(threshold, np.float32), np.array(cover, float))


STUMP = tree_of([(1, 2, 0, 5.0, 10.0), (-1, -1, 0, -1.0, 4.0), (-1, -1, 0, 2.0, 6.0)])
CHAIN = tree_of(
    # Column 0 is asked twice on one path, which counts as one feature known or unknown.
    [
        (1, 2, 0, 5.0, 20.0),
        (3, 4, 1, 1.0, 8.0),
        (-1, -1, 0, 3.0, 12.0),
        (-1, -1, 0, -2.0, 5.0),
        (5, 6, 0, 2.0, 3.0),
        (-1, -1, 0, 1.0, 1.0),
        (-1, -1, 0, 4.0, 2.0),
    ]
)


def full(depth, columns, seed=3):
    """A full tree of a depth, over so many columns, with random covers and values."""
    random = np.random.default_rng(seed)
    inner = 2**depth - 1
    cover = np.zeros(2 * inner + 1)
    cover[0] = 1000.0
    for node in range(inner):
        share = random.uniform(0.2, 0.8)
        cover[2 * node + 1], cover[2 * node + 2] = share * cover[node], (1 - share) * cover[node]
    rows = [
        (2 * node + 1, 2 * node + 2, int(random.integers(columns)), float(random.normal()), cover[node])
        if node < inner
        else (-1, -1, 0, float(random.normal()), cover[node])
        for node in range(2 * inner + 1)
    ]
    return tree_of(rows)


def expectation(tree, row, known, node=0):
    """What the tree expects of a row of which only the columns in ``known`` are known (Lundberg et al. 2020)."""
    if tree.is_leaf(node):
        return float(tree.threshold[node])
    column = tree.column[node]
    if column in known:
        taken = tree.right[node] if row[column] >= tree.threshold[node] else tree.left[node]
        return expectation(tree, row, known, taken)
    return sum(
        tree.share(node, branch) * expectation(tree, row, known, child)
        for branch, child in enumerate((tree.left[node], tree.right[node]))
    )


def by_definition(tree, row):
    """Each column's mean gain over all orders of becoming known."""
    columns = sorted({each for node, each in enumerate(tree.column) if not tree.is_leaf(node)})
    gained = dict.fromkeys(columns, 0.0)
    for order in itertools.permutations(columns):
        for place, column in enumerate(order):
            before = expectation(tree, row, set(order[:place]))
            gained[column] += expectation(tree, row, {*order[:place], column}) - before
    return {column: total / math.factorial(len(columns)) for column, total in gained.items()}


def looked_up(tree, row):
    """The same, and the leaf's value, from the tables."""
    added, reached = {}, 0.0
    for unit in units(tree):
        outcome = sum(
            int(row[column] >= threshold) << bit
            for bit, (column, threshold) in enumerate(zip(unit.columns, unit.thresholds, strict=True))
        )
        reached += float(unit.leaf_values[outcome])
        for column, values in unit.added.items():
            added[column] = added.get(column, 0.0) + float(values[outcome])
    return added, reached


@pytest.mark.parametrize(
    ("tree", "parts"),
    [(STUMP, 1), (CHAIN, 1), (full(2, 2), 1), (full(3, 4), 1), (full(4, 3), 2), (full(5, 5), 8)],
    ids=["stump", "column twice", "depth 2", "depth 3", "depth 4", "depth 5"],
)
def test_it_is_the_definition(tree, parts):
    assert len(list(units(tree))) == parts
    random = np.random.default_rng(1)
    for _ in range(12):
        row = random.normal(size=6).astype(np.float32) * 3
        found, reached = looked_up(tree, row)
        assert found == pytest.approx(by_definition(tree, row), abs=1e-12)
        assert reached == expectation(tree, row, set(range(6)))


@pytest.mark.parametrize("tree", [STUMP, CHAIN, full(4, 3)])
def test_mean_and_contributions_make_the_leaf(tree):
    expected = sum(unit.expected for unit in units(tree))
    assert expected == pytest.approx(expectation(tree, {}, set()), abs=1e-12)
    row = np.array([2.5, 1.5, -1.0], np.float32)
    found, reached = looked_up(tree, row)
    assert expected + sum(found.values()) == pytest.approx(reached, abs=1e-12)


def test_a_tree_that_is_one_leaf_adds_nothing():
    (unit,) = units(tree_of([(-1, -1, 0, 0.25, 10.0)]))
    assert (unit.expected, unit.leaf_values.tolist(), unit.added) == (0.25, [0.25], {})


def test_a_path_longer_than_a_byte_is_refused():
    depth = CONDITIONS_MAX + 2
    # A comb: each right child asks again, and below the ninth question are nine others.
    rows = [(2 * step + 1, 2 * step + 2, step, 0.0, 100.0 - step) for step in range(depth)]
    nodes = []
    for step, row in enumerate(rows):
        nodes += [row] if step == 0 else [(-1, -1, 0, 1.0, 1.0), row]
    nodes += [(-1, -1, 0, 1.0, 1.0), (-1, -1, 0, 2.0, 1.0)]
    with pytest.raises(TreesUnsupportedError, match="deeper than 8"):
        list(units(tree_of(nodes)))


def test_splits_by_category_are_refused():
    with pytest.raises(TreesUnsupportedError, match="by category"):
        Tree.of({"split_type": [1, 0, 0]})
