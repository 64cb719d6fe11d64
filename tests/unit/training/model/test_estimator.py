"""The model is the blend it says it is, seeded, without class weights."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from bentos.bundle.design_matrix import matrix
from feature_repo.contract import BY_NAME, CORE_SERVICE, SERVICES_OF
from tests.support.small_model import fitted_model
from training.model.estimator import (
    BlendedChurnClassifier,
    DesignMatrix,
    HyperParameters,
    baseline_pipeline,
    linear_pipeline,
    tree_margin,
    tree_pipeline,
)
from training.model.feature_columns import DESIGNS, TREE_TERMS


def test_the_transformer_is_the_bundles_own_matrix(frame):
    transformer = DesignMatrix(TREE_TERMS).fit(frame)
    assert np.array_equal(transformer.transform(frame), matrix(TREE_TERMS, frame))
    assert transformer.get_feature_names_out().tolist() == [column.name for column in TREE_TERMS]
    assert transformer.n_features_in_ == frame.shape[1]


def test_the_margin_is_the_weighted_sum_of_the_parts(frame):
    model = fitted_model()
    linear = model.linear_.decision_function(frame)
    trees = tree_margin(model.trees_, frame)
    assert model.params_.tree_weight == 0.2
    assert model.decision_function(frame) == pytest.approx(0.8 * linear + 0.2 * trees, abs=1e-12)


def test_probabilities_are_two_columns_that_sum_to_one(frame):
    model = fitted_model()
    probability = model.predict_proba(frame)
    assert probability.shape == (len(frame), 2)
    assert probability.sum(axis=1) == pytest.approx(np.ones(len(frame)), abs=1e-15)
    assert np.array_equal(model.predict(frame), probability[:, 1] >= 0.5)
    assert model.classes_.tolist() == [False, True]


def test_the_same_seed_gives_the_same_model(frame, churned):
    again = BlendedChurnClassifier(HyperParameters(rounds=30), 7).fit(frame, churned)
    assert np.array_equal(again.decision_function(frame), fitted_model().decision_function(frame))


def test_another_seed_gives_other_trees(frame, churned):
    other = BlendedChurnClassifier(HyperParameters(rounds=30), 8).fit(frame, churned)
    assert not np.array_equal(other.decision_function(frame), fitted_model().decision_function(frame))


def test_it_is_cloned_by_its_parameters(frame, churned):
    copied = clone(BlendedChurnClassifier(HyperParameters(rounds=5), 3))
    assert (copied.params, copied.seed) == (HyperParameters(rounds=5), 3)
    assert BlendedChurnClassifier().fit(frame, churned).params_ == HyperParameters()


def test_contributions_explain_the_margin(frame):
    names = SERVICES_OF[CORE_SERVICE]
    model = fitted_model()
    rest = model.decision_function(frame) - model.contributions(frame, names).sum(axis=1)
    assert rest == pytest.approx(np.full(len(frame), rest[0]), abs=1e-6)


def test_nothing_is_weighted_or_resampled():
    # Weights would leave the ranking and ruin the calibration.
    assert linear_pipeline(1.0)["regression"].class_weight is None
    boosting = tree_pipeline(HyperParameters(), 0)["boosting"].get_params()
    assert boosting["scale_pos_weight"] is None
    assert boosting["monotone_constraints"] == DESIGNS[CORE_SERVICE].monotone


@pytest.mark.parametrize(
    ("feature", "from_", "to", "sign"),
    [
        ("contract_type", "One year", "Month-to-month", 1),
        ("contract_type", "One year", "Two year", -1),
        ("internet_service", "DSL", "Fiber optic", 1),
        ("tenure_months", 2.0, 60.0, -1),
    ],
)
def test_the_trees_keep_their_direction_for_every_customer(frame, feature, from_, to, sign):
    trees = fitted_model().trees_
    before, after = (tree_margin(trees, frame.assign(**{feature: value})) for value in (from_, to))
    assert (sign * (after - before) >= -1e-6).all()
    assert (sign * (after - before) > 1e-6).any()


def test_the_baseline_reads_stored_features_and_survives_the_null_and_the_unknown(frame, churned):
    fitted = baseline_pipeline().fit(frame, churned)
    read = [name for _, _, columns in fitted["encode"].transformers for name in columns]
    assert sorted(read) == sorted(name for name in SERVICES_OF[CORE_SERVICE] if not BY_NAME[name].derived)
    strange = frame.head(2).assign(contract_type="Ten years", total_charges_usd=np.nan)
    assert np.isfinite(fitted.predict_proba(strange)).all()


def test_after_early_stopping_the_wrapper_uses_the_best_round(frame, churned):
    model = tree_pipeline(HyperParameters(rounds=400, learning_rate=0.3), 7, early_stopping_rounds=5)
    half = len(frame) // 2
    valid = frame.iloc[half:]
    watched = [(model["design"].transform(valid), churned[half:].astype(int))]
    model.fit(frame.iloc[:half], churned[:half].astype(int), boosting__eval_set=watched, boosting__verbose=False)
    boosting = model["boosting"]
    best = boosting.best_iteration + 1
    assert best < boosting.get_booster().num_boosted_rounds() < 400
    sliced = boosting.get_booster()[:best]
    from xgboost import DMatrix

    direct = sliced.predict(DMatrix(matrix(TREE_TERMS, valid).astype(np.float32)), output_margin=True)
    assert tree_margin(model, valid) == pytest.approx(direct, abs=1e-6)
