"""Tuning is seeded, pruned, resumable, bounded, and never worse than the defaults."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from configs.settings import TrainingSettings
from tests.support.small_model import features_of_snapshot, labels_of, simulated
from training.data.split import OneClassTrainingSetError, folds
from training.metrics.scores import log_loss
from training.model.estimator import BlendedChurnClassifier, HyperParameters, tree_pipeline
from training.model.tuning import EARLY_STOPPING_ROUNDS, FOLDS, ROUNDS_MAX, tune

pytestmark = pytest.mark.slow

CUSTOMERS = 150
JOURNAL_ADDED = 4
"""Optuna's code, in a journal, for a trial that is added."""
DEFAULTS = {name: asdict(HyperParameters())[name] for name in ("regularisation", "tree_weight", "max_depth")}


def plan(**changes):
    usual = {"seed": 2, "trials": 3, "tuning_timeout_s": 3600, "folds": 3, "test_share": 0.2}
    return TrainingSettings(**(usual | changes))


@pytest.fixture(scope="module")
def frame():
    return features_of_snapshot(simulated(CUSTOMERS))


@pytest.fixture(scope="module")
def churned():
    return labels_of(simulated(CUSTOMERS))


@pytest.fixture(scope="module")
def long_search(frame, churned, tmp_path_factory):
    """Twenty-four trials, kept in a journal."""
    journal = tmp_path_factory.mktemp("optuna") / "deep" / "journal.log"
    return tune(frame, churned, plan(trials=24), journal=journal), journal


def trials(journal):
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]


def test_it_is_deterministic_in_memory_and_in_a_journal(frame, churned, long_search):
    found, _ = long_search
    assert tune(frame, churned, plan(trials=24)) == found


def test_the_result_is_what_the_space_allows(long_search):
    found, _ = long_search
    assert found.trials == 24
    assert found.params.regularisation in {0.1, 0.3, 1.0}
    assert found.params.tree_weight in {0.1, 0.2, 0.3}
    assert found.params.max_depth in {2, 3}
    assert 1 <= found.params.rounds < ROUNDS_MAX
    assert found.params.learning_rate == HyperParameters().learning_rate
    assert 0.3 < found.log_loss < np.log(2)


def test_the_first_trial_is_the_defaults_and_the_best_is_no_worse(long_search):
    found, journal = long_search
    first = trials(journal)[0]
    assert first.params == pytest.approx(DEFAULTS)
    assert found.log_loss <= first.value


def test_a_single_trial_is_the_defaults(frame, churned):
    params = tune(frame, churned, plan(trials=1)).params
    assert {name: asdict(params)[name] for name in DEFAULTS} == DEFAULTS


def test_bad_trials_are_cut_short_and_never_chosen(long_search):
    found, journal = long_search
    done = trials(journal)
    pruned = [trial for trial in done if trial.state == TrialState.PRUNED]
    assert found.pruned == len(pruned) > 0
    assert min(len(trial.intermediate_values) for trial in pruned) < FOLDS
    complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
    assert len(complete) + len(pruned) == 24
    assert found.log_loss == min(trial.value for trial in complete)


def test_a_finished_search_is_not_run_again(frame, churned, long_search):
    found, journal = long_search
    before = journal.read_bytes()
    assert tune(frame, churned, plan(trials=24), journal=journal) == found
    assert tune(frame, churned, plan(trials=5), journal=journal) == tune(frame, churned, plan(trials=5))
    assert len(trials(journal)) == 24
    assert len(journal.read_bytes()) - len(before) < 4000  # who asks leaves a line; no trial


@pytest.mark.parametrize("killed_after", [1, 2, 5, 13, 23])
def test_an_interrupted_search_ends_with_the_result_of_one_that_was_not(
    frame, churned, tmp_path, long_search, killed_after
):
    found, whole = long_search
    lines = whole.read_bytes().splitlines(keepends=True)
    added = [place for place, line in enumerate(lines) if json.loads(line)["op_code"] == JOURNAL_ADDED]
    journal = tmp_path / "journal.log"
    # Killed while it wrote the next trial: half of its line is there.
    torn = lines[added[killed_after]]
    journal.write_bytes(b"".join(lines[: added[killed_after]]) + torn[: len(torn) // 2])
    assert tune(frame, churned, plan(trials=24), journal=journal) == found
    assert [(each.params, each.value, each.state) for each in trials(journal)] == [
        (each.params, each.value, each.state) for each in trials(whole)
    ]


@pytest.mark.parametrize("left", [TrialState.WAITING, TrialState.RUNNING])
def test_a_trial_that_an_earlier_version_left_unfinished_is_passed_over(frame, churned, tmp_path, long_search, left):
    journal = tmp_path / "journal.log"
    expected = tune(frame, churned, plan(trials=3), journal=journal)
    name = JournalStorage(JournalFileBackend(str(journal))).get_all_studies()[0].study_name
    journal.unlink()
    study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(journal))), study_name=name)
    study.enqueue_trial(DEFAULTS)
    if left == TrialState.RUNNING:
        study.ask()
    assert [trial.state for trial in trials(journal)] == [left]
    assert tune(frame, churned, plan(trials=3), journal=journal) == expected
    assert len([trial for trial in trials(journal) if trial.state.is_finished()]) == 3


def test_the_rounds_are_the_mean_of_the_best_of_each_fold(frame, churned):
    best = []
    for train, valid in folds(frame, churned, FOLDS, seed=2):
        model = tree_pipeline(HyperParameters(rounds=ROUNDS_MAX), 2, EARLY_STOPPING_ROUNDS)
        watched = [(model["design"].transform(frame.iloc[valid]), churned[valid].astype(int))]
        model.fit(frame.iloc[train], churned[train].astype(int), boosting__eval_set=watched, boosting__verbose=False)
        losses = model["boosting"].evals_result()["validation_0"]["logloss"]
        best.append(int(np.argmin(losses)) + 1)
    assert tune(frame, churned, plan(trials=1)).params.rounds == round(np.mean(best))


def test_trials_of_other_data_or_another_seed_are_not_reused(frame, churned, tmp_path):
    journal = tmp_path / "journal.log"
    for features, labels, seed in (
        (frame, churned, 7),
        (frame, churned, 8),
        (frame.assign(tenure_months=frame["tenure_months"] + 1), churned, 7),
        (frame, np.roll(churned, 1), 7),
    ):
        tune(features, labels, plan(trials=1, seed=seed), journal=journal)
    assert len(trials(journal)) == len(JournalStorage(JournalFileBackend(str(journal))).get_all_studies()) == 4


def test_with_dates_each_fold_is_newer_than_what_it_was_trained_on(frame, churned, tmp_path):
    dates = pd.Series(pd.Timestamp(2026, 1, 1, tz="UTC") + pd.to_timedelta(np.arange(CUSTOMERS) % 3 * 30, unit="D"))
    journal = tmp_path / "journal.log"
    found = tune(frame, churned, plan(trials=1), observed_at=dates, journal=journal)
    losses = []
    for train, valid in folds(frame, churned, FOLDS, 2, dates):
        assert dates.iloc[train].max() < dates.iloc[valid].min()
        model = BlendedChurnClassifier(HyperParameters(rounds=ROUNDS_MAX), 2).fit(frame.iloc[train], churned[train])
        losses.append(log_loss(churned[valid], model.predict_proba(frame.iloc[valid])[:, 1]))
    (trial,) = trials(journal)
    assert len(losses) == len(trial.intermediate_values) == 2, "three dates, the oldest is never asked"
    assert found.log_loss <= np.mean(losses) + 0.01, "stopped early, it does no worse than going on to the end"
    # The same rows without their dates, or with others, are another study.
    tune(frame, churned, plan(trials=1), journal=journal)
    tune(frame, churned, plan(trials=1), observed_at=dates[::-1].reset_index(drop=True), journal=journal)
    assert len(trials(journal)) == 3


def test_time_is_bounded(frame, churned):
    found = tune(frame, churned, plan(trials=1_000_000, tuning_timeout_s=1))
    assert 1 <= found.trials < 1_000_000


def test_33_one_class_is_a_clear_failure_and_leaves_no_trial(frame, tmp_path):
    journal = tmp_path / "journal.log"
    with pytest.raises(OneClassTrainingSetError):
        tune(frame, np.zeros(len(frame), dtype=bool), plan(), journal=journal)
    assert [trial for trial in trials(journal) if trial.state.is_finished()] == []


def test_optuna_talks_only_of_what_goes_wrong(frame, churned, capfd):
    tune(frame, churned, plan(trials=1))
    assert capfd.readouterr().err == ""
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
