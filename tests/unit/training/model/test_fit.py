"""From a training set to a bundle with the figures of rows it never saw."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from bentos.bundle import Bundle
from bentos.decisions.economics import Economics, profit_threshold
from configs.settings import TrainingSettings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, LABEL, OBSERVED_AT, SERVICES_OF
from feature_repo.definition_hash import contract_hash
from tests.support.promotion_models import Crowd, judge
from tests.support.small_model import simulated, training_set, two_months
from training.data.split import IdenticalRowsError, OneClassTrainingSetError, folds, identical_rows, split_holdout
from training.metrics.scores import measure_metrics
from training.model.estimator import baseline_pipeline
from training.model.fit import REASON_CODES_FILE, Provenance, fit_challenger

pytestmark = pytest.mark.slow

PLAN = TrainingSettings(seed=7, trials=1, tuning_timeout_s=60, folds=2, test_share=0.25)
MADE = Provenance(("2026-01-31.v1",), "declared", "abc123", datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC))


@pytest.fixture(scope="module")
def rows():
    return training_set(simulated(800))


@pytest.fixture(scope="module")
def fitted(rows):
    return fit_challenger(rows, PLAN, Economics(), MADE)


def test_held_out_rows_are_the_splits_and_none_is_learnt_from(rows, fitted):
    train, test = split_holdout(rows, PLAN.test_share, PLAN.seed)
    assert fitted.train.tolist() == train.tolist()
    assert fitted.test.tolist() == test.tolist()
    groups = identical_rows(rows.features)
    assert not set(groups[train]) & set(groups[test])


def test_nothing_is_learnt_from_the_answers_of_held_out_rows():
    # The newest month is held out: turning its labels changes its figures and no bit of the model.
    rows = two_months(600)
    fitted = fit_challenger(rows, PLAN, Economics(), MADE)
    churned = rows.churned.to_numpy(dtype=bool).copy()
    churned[fitted.test] = ~churned[fitted.test]
    other = fit_challenger(replace(rows, keys=rows.keys.assign(**{LABEL: churned})), PLAN, Economics(), MADE)
    assert other.test.tolist() == fitted.test.tolist() == list(range(300, 600))
    assert np.array_equal(other.bundle.score(rows.features), fitted.bundle.score(rows.features))
    assert other.metrics.roc_auc == pytest.approx(1 - fitted.metrics.roc_auc, abs=1e-9)


def test_the_figures_are_the_bundles_own_on_the_held_out_rows(rows, fitted):
    churned = rows.churned.to_numpy(dtype=bool)
    score = fitted.bundle.score(rows.features.iloc[fitted.test])
    assert fitted.metrics == measure_metrics(churned[fitted.test], score, Economics())
    assert fitted.bundle.manifest.metrics == fitted.metrics.as_dict()
    plain = baseline_pipeline().fit(rows.features.iloc[fitted.train], churned[fitted.train])
    told = plain.predict_proba(rows.features.iloc[fitted.test])[:, 1]
    assert fitted.baseline == measure_metrics(churned[fitted.test], told, Economics())
    assert fitted.metrics.roc_auc > 0.75


def test_the_bundle_is_the_calibrated_model(rows, fitted):
    slope, intercept = fitted.bundle.manifest.calibration
    expected = slope * fitted.model.decision_function(rows.features) + intercept
    assert fitted.bundle.margin(rows.features) == pytest.approx(expected, abs=1e-9)


def test_the_manifest_says_where_it_comes_from(fitted):
    said = fitted.bundle.manifest
    assert said.model_version == "20260203T040506"
    assert said.created_at == "2026-02-03T04:05:06+00:00"
    assert (said.snapshots, said.time, said.git_commit) == (("2026-01-31.v1",), "declared", "abc123")
    assert (said.service, said.features) == (CORE_SERVICE, SERVICES_OF[CORE_SERVICE])
    assert said.contract_hash == contract_hash(CORE_SERVICE)
    assert said.threshold == profit_threshold(Economics())
    assert said.tree_weight == fitted.tuning.params.tree_weight
    assert fitted.bundle.reason_codes.encode() == REASON_CODES_FILE.read_bytes()


def test_it_can_be_saved_and_loaded(rows, fitted, tmp_path):
    kept = fitted.bundle.save(tmp_path)
    loaded = Bundle.load(tmp_path / "bundles" / kept.digest)
    assert np.array_equal(loaded.score(rows.features), fitted.bundle.score(rows.features))


def test_the_same_inputs_give_the_same_bundle(rows, fitted, tmp_path):
    again = fit_challenger(rows, PLAN, Economics(), MADE)
    assert again.bundle.save(tmp_path / "a").digest == fitted.bundle.save(tmp_path / "b").digest


def test_28_poisoned_labels_give_a_challenger_that_is_refused():
    # The labels of the older month are all turned; both are measured on the newest, which is true.
    rows = two_months(600)
    honest = fit_challenger(rows, PLAN, Economics(), MADE)
    poisoned = fit_challenger(two_months(600, poisoned=True), PLAN, Economics(), MADE)
    assert poisoned.test.tolist() == honest.test.tolist()
    right, wrong = (each.bundle.score(rows.features.iloc[honest.test]) for each in (honest, poisoned))
    churned = rows.churned.to_numpy(dtype=bool)[honest.test]
    customers = rows.keys[CUSTOMER].to_numpy()[honest.test]
    common = {"customers": customers, "churned": churned, "slices": {}}
    verdict = judge(Crowd().evidence(**common, challenger=wrong, champion=right), ece_max=0.08)
    assert not verdict.promote
    assert "log loss against the champion" in verdict.why
    # And the other way round the honest one takes the poisoned one's place.
    assert judge(Crowd().evidence(**common, challenger=right, champion=wrong), ece_max=0.08).promote


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda rows: replace(rows, keys=rows.keys.assign(**{LABEL: False})), OneClassTrainingSetError),
        (lambda rows: replace(rows, keys=rows.keys.assign(**{LABEL: True})), OneClassTrainingSetError),
        (
            lambda rows: replace(rows, features=rows.features.iloc[[0] * len(rows)].reset_index(drop=True)),
            IdenticalRowsError,
        ),
    ],
    ids=["nobody left", "everybody left", "everybody alike"],
)
def test_33_nothing_to_learn_is_a_clear_failure_and_no_model(rows, change, error):
    with pytest.raises(error) as refused:
        fit_challenger(change(rows), PLAN, Economics(), MADE)
    assert refused.value.hint


def test_33_a_constant_feature_is_no_obstacle(rows):
    # One plan only this month: the columns of the others are constant, and contribute nothing.
    constant = rows.features.assign(contract_type="One year", partner=True, monthly_charges_usd=50.0)
    found = fit_challenger(replace(rows, features=constant), PLAN, Economics(), MADE)
    assert np.isfinite(found.bundle.score(constant)).all()
    explained = found.bundle.explain(constant)
    place = SERVICES_OF[CORE_SERVICE].index("partner")
    assert explained.contributions[:, place] == pytest.approx(np.zeros(len(constant)), abs=1e-9)


def many_months(customers=1200, dates=5):
    """Several observation dates of different customers each."""
    rows = training_set(simulated(customers))
    months = pd.to_timedelta(np.arange(customers) % dates * 30, unit="D")
    at = pd.Series(pd.Timestamp(2026, 1, 1, 6, tz="UTC") + months).astype("datetime64[us, UTC]")
    return replace(rows, keys=rows.keys.assign(**{OBSERVED_AT: at}))


def test_with_many_dates_time_runs_forward_everywhere(monkeypatch):
    rows, seen = many_months(), []

    def watching(features, churned, count, seed, observed_at=None):
        for train, valid in folds(features, churned, count, seed, observed_at):
            seen.append((observed_at.iloc[train].max(), observed_at.iloc[valid].min()))
            yield train, valid

    # Only looked at, not replaced: the folds are the real ones.
    for module in ("training.model.fit", "training.model.tuning"):
        monkeypatch.setattr(f"{module}.folds", watching)
    fitted = fit_challenger(rows, PLAN.model_copy(update={"folds": 3}), Economics(), MADE)
    at = rows.keys[OBSERVED_AT]
    assert len(set(at.iloc[fitted.test])) == 1
    assert at.iloc[fitted.train].max() < at.iloc[fitted.test].min()
    assert len(seen) == 6, "three folds of tuning, three of calibration"
    assert all(learnt < asked < at.iloc[fitted.test].min() for learnt, asked in seen)
    assert fitted.metrics.roc_auc > 0.75


def test_with_many_dates_nothing_is_learnt_from_the_newest():
    rows = many_months()
    fitted = fit_challenger(rows, PLAN, Economics(), MADE)
    churned = rows.churned.to_numpy(dtype=bool).copy()
    churned[fitted.test] = ~churned[fitted.test]
    other = fit_challenger(replace(rows, keys=rows.keys.assign(**{LABEL: churned})), PLAN, Economics(), MADE)
    assert np.array_equal(other.bundle.score(rows.features), fitted.bundle.score(rows.features))
    assert other.bundle.manifest.calibration == fitted.bundle.manifest.calibration
