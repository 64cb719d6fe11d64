"""Trees as tables: XGBoost's own margin to the bit, its contributions, and nothing where they can't be had."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from xgboost import DMatrix, XGBClassifier

from bentos.bundle.treeshap import columnwise, tree_tables
from bentos.bundle.treeshap.columnwise import LARGE_FROM_ROWS
from bentos.bundle.treeshap.exact import TreesUnsupportedError
from bentos.bundle.treeshap.small_batches import SMALL_FROM_ROWS
from bentos.bundle.treeshap.tree_tables import CHUNK, TreeTables, compile_verified

COLUMNS = 9


def boosted(depth, rounds=40, seed=5, **more):
    """A booster on columns of which half are 0/1, as a design's are."""
    random = np.random.default_rng(seed)
    rows = np.where(np.arange(COLUMNS) < 5, random.integers(0, 2, (1500, COLUMNS)), random.normal(size=(1500, COLUMNS)))
    left = rows @ random.normal(size=COLUMNS) + random.normal(size=1500) > 0.7
    model = XGBClassifier(max_depth=depth, n_estimators=rounds, n_jobs=1, tree_method="hist", **more)
    booster = model.fit(rows.astype(np.float32), left).get_booster()
    booster.set_param({"nthread": 1})
    return booster, rows.astype(np.float32)


def peers(booster, rows):
    data = DMatrix(rows)
    return booster.predict(data, output_margin=True), booster.predict(data, pred_contribs=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 3, 5])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
def test_every_row_is_xgboosts(depth, seed):
    """To the bit: with seeds 1 and 3 the start is not what NumPy's logarithm of the base score would be."""
    booster, rows = boosted(depth, seed=seed)
    tables = compile_verified(booster, np.eye(COLUMNS))
    margins, contributions = peers(booster, rows)
    margin, added = tables.explain(rows)
    assert np.array_equal(margin, margins)
    assert np.array_equal(tables.margin(rows), margins)
    assert added == pytest.approx(contributions[:, :-1], abs=1e-5)
    assert tables.base == pytest.approx(contributions[0, -1], abs=1e-5)
    assert tables.base + added.sum(axis=1) == pytest.approx(margin, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 3, 6])
@pytest.mark.parametrize(
    "among",
    [2, SMALL_FROM_ROWS - 1, SMALL_FROM_ROWS, LARGE_FROM_ROWS - 1, LARGE_FROM_ROWS, CHUNK + 3, columnwise.CHUNK + 3],
)
def test_a_row_is_the_same_to_the_bit_alone_and_among_others(depth, among):
    booster, rows = boosted(depth)
    # Half of the columns, and a product, lie under one feature, as a design's do.
    weights = np.vstack([np.eye(COLUMNS)[:5], np.full((4, COLUMNS), 1 / COLUMNS)])
    tables = compile_verified(booster, weights)
    many = np.resize(rows, (among, COLUMNS))
    margin, added = tables.explain(many)
    assert added.flags.c_contiguous  # sums over a row are taken in the same order, then
    for row in (0, 1, among // 2, among - 1):
        alone_margin, alone = tables.explain(many[row : row + 1])
        assert np.array_equal(alone[0], added[row])
        assert alone_margin[0] == margin[row]


def test_either_way_gives_the_same_bits():
    booster, rows = boosted(4)
    tables = compile_verified(booster, np.eye(COLUMNS))
    margin, added = tables.explain(rows)
    few = [
        tables.explain(rows[start : start + LARGE_FROM_ROWS - 1]) for start in range(0, len(rows), LARGE_FROM_ROWS - 1)
    ]
    assert np.array_equal(margin, np.concatenate([each for each, _ in few]))
    assert np.array_equal(added, np.concatenate([each for _, each in few]))


def test_no_rows_give_no_rows():
    tables = compile_verified(boosted(2)[0], np.eye(COLUMNS))
    margin, added = tables.explain(np.empty((0, COLUMNS), np.float32))
    assert (margin.shape, added.shape) == ((0,), (0, COLUMNS))


def test_trees_without_a_split_have_tables():
    """Two rows are too few for the least weight of a leaf: every tree is one leaf."""
    booster = XGBClassifier(n_estimators=2, max_depth=2).fit(np.array([[1.0], [70.0]]), np.array([1, 0])).get_booster()
    tables = compile_verified(booster, np.eye(1))
    margin, contributions = tables.explain(np.full((SMALL_FROM_ROWS, 1), 5.0, np.float32))
    assert np.array_equal(margin, booster.predict(DMatrix(np.full((SMALL_FROM_ROWS, 1), 5.0)), output_margin=True))
    assert not contributions.any()


def test_columns_of_one_feature_add_up():
    booster, rows = boosted(3)
    weights = np.repeat(np.eye(3), 3, axis=0)
    _, together = compile_verified(booster, weights).explain(rows)
    _, each = compile_verified(booster, np.eye(COLUMNS)).explain(rows)
    assert together == pytest.approx(each @ weights, abs=1e-12)


def test_values_at_a_threshold_go_right_and_just_below_left():
    booster, _ = boosted(3)
    tables = compile_verified(booster, np.eye(COLUMNS))
    rows = np.zeros((500, COLUMNS), np.float32)
    found = tables.probes(500, seed=9)
    rows[:, : found.shape[1]] = found
    assert np.array_equal(tables.margin(rows), peers(booster, rows)[0])


def test_trees_that_are_too_deep_are_left_to_xgboost(caplog):
    assert compile_verified(boosted(12, rounds=3, min_child_weight=0)[0], np.eye(COLUMNS)) is None
    assert "explained by XGBoost itself" in caplog.text


def test_trees_that_are_too_many_are_left_to_xgboost(monkeypatch):
    monkeypatch.setattr(tree_tables, "TABLE_MAX_BYTES", 1000)
    with pytest.raises(TreesUnsupportedError, match="would exceed"):
        TreeTables.of(boosted(2)[0], np.eye(COLUMNS))


@pytest.mark.parametrize("objective", ["reg:squarederror", "binary:logitraw"])
def test_another_objective_is_left_to_xgboost(objective):
    assert compile_verified(boosted(2, objective=objective)[0], np.eye(COLUMNS)) is None


def test_tables_that_differ_are_not_used(monkeypatch, caplog):
    booster, _ = boosted(2)
    exact = TreeTables.of
    monkeypatch.setattr(TreeTables, "of", lambda *given: replace(exact(*given), added=exact(*given).added + 1e-3))
    assert compile_verified(booster, np.eye(COLUMNS)) is None
    assert "the tables differ from it by" in caplog.text
