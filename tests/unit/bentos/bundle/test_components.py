"""Two additive parts: each one's contributions are right on their own, and add up."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest

from bentos.bundle.components import LinearComponent, TreeComponent
from bentos.bundle.design_matrix import Factor, Term, matrix
from feature_repo.contract import CORE_SERVICE, SERVICES_OF
from tests.support.small_model import fitted_model

NAMES = SERVICES_OF[CORE_SERVICE]
TENURE = Factor("tenure_months", "number")
MONTHLY = Factor("contract_type", "equals", "Month-to-month")
HAND_MADE = LinearComponent(
    design=(Term("tenure", (TENURE,)), Term("both", (TENURE, MONTHLY))),
    mean=np.array([10.0, 4.0]),
    scale=np.array([5.0, 2.0]),
    coefficients=np.array([-1.0, 0.5]),
    intercept=-1.25,
)
OWN = ("contract_type", "tenure_months")
TWO = matrix(
    HAND_MADE.design,
    pd.DataFrame({"contract_type": ["Month-to-month", "Two year"], "tenure_months": [20.0, 5.0]}),
)


@pytest.fixture(scope="module")
def matrices(frame, parts):
    """The matrix of each part's design."""
    return tuple(matrix(part.design, frame) for part in parts)


@pytest.fixture(scope="module")
def parts():
    return fitted_model().parts()


def test_a_linear_contribution_is_coefficient_times_distance_from_the_mean():
    # (20 - 10) / 5 * -1 = -2 and (20 - 4) / 2 * 0.5 = 4; then (5 - 10) / 5 * -1 = 1 and (0 - 4) / 2 * 0.5 = -1.
    assert HAND_MADE.columns(TWO).tolist() == [[-2, 4], [1, -1]]
    assert HAND_MADE.margin(TWO).tolist() == [0.75, -1.25]


def test_a_product_is_shared_half_and_half():
    explained = HAND_MADE.explain(TWO, OWN)
    assert explained.contributions.tolist() == [[2, 0], [-0.5, 0.5]]
    assert explained.base == -1.25
    assert explained.margin.tolist() == [0.75, -1.25]


def test_the_linear_part_equals_scikit_learns(frame, matrices, parts):
    linear, _ = parts
    assert linear.margin(matrices[0]) == pytest.approx(fitted_model().linear_.decision_function(frame), abs=1e-9)
    explained = linear.explain(matrices[0], NAMES)
    assert explained.base + explained.contributions.sum(axis=1) == pytest.approx(explained.margin, abs=1e-9)


def test_the_linear_part_keeps_every_bit_as_json(matrices, parts):
    linear, _ = parts
    again = LinearComponent.from_json(json.loads(json.dumps(linear.to_json())))
    assert np.array_equal(again.margin(matrices[0]), linear.margin(matrices[0]))


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [10.0]},
        {"scale": [5.0, 2.0, 1.0]},
        {"coefficients": [[-1.0, 0.5]]},
        {"coefficients": [-1.0, float("nan")]},
        {"scale": [5.0, float("inf")]},
        {"scale": [5.0, 0.0]},
        {"scale": [5.0, -2.0]},
        {"intercept": float("nan")},
    ],
)
def test_numbers_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match="do not fit"):
        LinearComponent.from_json(HAND_MADE.to_json() | change)


def test_the_tree_part_equals_the_wrapper(frame, matrices, parts):
    _, trees = parts
    wrapped = fitted_model().trees_.predict(frame, output_margin=True)
    assert trees.margin(matrices[1]) == pytest.approx(wrapped, abs=1e-6)


@pytest.mark.slow
def test_the_tree_contributions_are_exact_tree_shap(frame, matrices, parts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of shap's plots, at import
        import shap

    _, trees = parts
    columns = matrix(trees.design, frame.head(200)).astype(np.float32)
    # expected_value is wrong until values were computed: base_values of an explanation are not.
    peer = shap.TreeExplainer(trees.booster)(columns)
    explained = trees.explain(matrices[1][:200], NAMES)
    assert explained.base == pytest.approx(float(peer.base_values[0]), abs=1e-4)
    for name in NAMES:
        place = NAMES.index(name)
        own = [k for k, column in enumerate(trees.design) if column.factors[0].feature == name]
        summed = peer.values[:, own].sum(axis=1)
        assert explained.contributions[:, place] == pytest.approx(summed, abs=1e-4), name


def test_tree_contributions_add_up_to_the_margin(matrices, parts):
    _, trees = parts
    explained = trees.explain(matrices[1], NAMES)
    assert explained.base + explained.contributions.sum(axis=1) == pytest.approx(explained.margin, abs=2e-6)
    assert np.array_equal(explained.margin, trees.margin(matrices[1]))


def test_no_rows_have_the_same_base_and_nothing_else(matrices, parts):
    for part, own in zip(parts, matrices, strict=True):
        assert part.margin(own[:0]).shape == (0,)
        explained = part.explain(own[:0], NAMES)
        assert explained.contributions.shape == (0, len(NAMES))
        assert explained.base == part.explain(own[:3], NAMES).base


def test_a_booster_has_exactly_the_rounds_that_were_fitted(parts):
    _, trees = parts
    assert trees.booster.num_boosted_rounds() == fitted_model().params_.rounds == 30
    assert isinstance(trees, TreeComponent)
