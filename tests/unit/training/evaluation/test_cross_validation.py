"""Repeated nested cross-validation: every score is of a row that no part of the choice had seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bentos.decisions.economics import Economics
from configs.settings import TrainingSettings
from training.data.split import folds
from training.evaluation.cross_validation import cross_validate
from training.metrics.scores import measure_metrics
from training.model.estimator import BlendedChurnClassifier, baseline_pipeline
from training.model.tuning import tune

pytestmark = pytest.mark.slow

PLAN = TrainingSettings(seed=7, trials=1, tuning_timeout_s=60, folds=2, test_share=0.2)


@pytest.fixture(scope="module")
def validated(frame, churned):
    told = []
    found = cross_validate(frame, churned, PLAN, Economics(), repeats=2, progress=told.append)
    return found, told


def test_progress_counts_the_finished_folds(validated):
    assert validated[1] == [1, 2, 3, 4]


def test_every_row_has_a_score_of_each_model_in_each_repeat(validated, frame):
    found, _ = validated
    for score in (found.score, found.baseline_score):
        assert score.shape == (2, len(frame))
        assert ((score > 0) & (score < 1)).all()
        assert not np.array_equal(score[0], score[1])
    assert len(found.chosen) == 4
    assert found.contributions.shape == frame.shape


def test_figures_are_those_of_the_scores(validated, churned):
    found, _ = validated
    assert found.metrics == tuple(measure_metrics(churned, row, Economics()) for row in found.score)
    assert found.baseline_metrics == tuple(measure_metrics(churned, row, Economics()) for row in found.baseline_score)
    ahead = [ours.roc_auc > theirs.roc_auc for ours, theirs in zip(found.metrics, found.baseline_metrics, strict=True)]
    assert found.ahead == sum(ahead)


def test_a_fold_is_scored_by_models_of_the_other_folds_alone(validated, frame, churned):
    found, _ = validated
    train, valid = next(folds(frame, churned, 2, seed=8))  # the first fold of the second repeat
    params = tune(frame.iloc[train], churned[train], PLAN.model_copy(update={"seed": 8})).params
    assert found.chosen[2] == params
    model = BlendedChurnClassifier(params, 8).fit(frame.iloc[train], churned[train])
    assert np.array_equal(found.score[1, valid], model.predict_proba(frame.iloc[valid])[:, 1])
    plain = baseline_pipeline().fit(frame.iloc[train], churned[train])
    assert np.array_equal(found.baseline_score[1, valid], plain.predict_proba(frame.iloc[valid])[:, 1])


def test_a_label_that_leaks_into_no_feature_can_not_be_guessed(frame):
    # Labels by lot: whoever scored above chance would have seen them.
    lot = np.random.default_rng(1).random(len(frame)) < 0.3
    found = cross_validate(frame, lot, PLAN, Economics(), repeats=1)
    assert found.metrics[0].roc_auc == pytest.approx(0.5, abs=0.1)


def test_without_dates_every_row_is_scored(validated, frame):
    assert validated[0].scored.tolist() == list(range(len(frame)))


@pytest.fixture(scope="module")
def dates(frame):
    months = pd.to_timedelta(np.arange(len(frame)) % 4 * 30, unit="D")
    return pd.Series(pd.Timestamp(2026, 1, 1, 6, tz="UTC") + months)


def test_with_dates_the_newest_are_scored_by_what_was_learnt_before(frame, churned, dates):
    told = []
    found = cross_validate(frame, churned, PLAN, Economics(), observed_at=dates, repeats=2, progress=told.append)
    newest = np.flatnonzero(np.arange(len(frame)) % 4 >= 2)
    assert found.scored.tolist() == newest.tolist(), "two folds: the two newest of four dates"
    assert found.score.shape == found.baseline_score.shape == (2, len(newest))
    assert found.contributions.shape == (len(newest), frame.shape[1])
    assert np.isfinite(found.contributions).all()
    assert told == [1, 2, 3, 4]
    assert found.metrics == tuple(measure_metrics(churned[newest], row, Economics()) for row in found.score)
    # The folds are the same in both repeats: only the learner's own lot differs.
    assert np.array_equal(found.baseline_score[0], found.baseline_score[1])
    assert not np.array_equal(found.score[0], found.score[1])
    assert np.abs(found.score[0] - found.score[1]).max() < 0.1


def test_with_dates_no_newer_row_plays_a_part(frame, churned, dates):
    once = cross_validate(frame, churned, PLAN, Economics(), observed_at=dates, repeats=1)
    last = (np.arange(len(frame)) % 4) == 3
    other = cross_validate(frame, churned ^ last, PLAN, Economics(), observed_at=dates, repeats=1)
    assert np.array_equal(once.score, other.score), "the newest date's labels are learnt from by no fold"
