"""Retraining on a real registry: who may serve, and what stays when somebody may not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import mlflow
import pytest

from bentos.bundle import Bundle, champion
from configs.settings import TrainingSettings, load_settings
from flows.train import champion_metrics, fit_challenger, promote, register_challenger
from tests.small_model import publish_month, two_months
from training.registry import tracking_uri, version_of

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PLAN = TrainingSettings(seed=7, trials=1, tuning_timeout_s=60, folds=2, test_share=0.25)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    home = tmp_path_factory.mktemp("retraining") / "home"
    # A run keeps the gate's verdict on the newest snapshot; the rows themselves are made in memory.
    publish_month(home, date(2026, 5, 1), {"ann": "No", "bob": "Yes"})
    return load_settings(home=home).model_copy(update={"training": PLAN})


def challenge(settings, rows, *, months_later=0):
    fitted, bundle = fit_challenger(settings, rows, NOW + timedelta(days=30 * months_later))
    return register_challenger(settings, fitted, bundle, rows)


def pointer(settings):
    return json.loads((settings.home / "bundles" / "champion.json").read_text())


def tags(settings, version):
    mlflow.set_tracking_uri(tracking_uri(settings))
    return mlflow.MlflowClient().get_model_version("churn", version).tags


@pytest.fixture(scope="module")
def first(settings):
    """The first model: nobody serves yet, so that only the floors count."""
    made = challenge(settings, two_months(1500))
    assert champion_metrics(settings, made) is None
    verdict = promote(settings, made)
    assert verdict.promote, verdict.why
    return made


def test_the_first_challenger_serves(settings, first):
    assert version_of(settings, "champion") == version_of(settings, "challenger") == first.registered
    assert pointer(settings) == {
        "digest": first.bundle.digest,
        "path": first.bundle.digest,
        "model_version": first.bundle.manifest.model_version,
    }
    assert Bundle.load(champion(settings.home)).digest == first.bundle.digest
    assert tags(settings, "1")["verdict"] == "promoted"
    assert tags(settings, "1")["why"] == "every rule held"


@pytest.fixture(scope="module")
def poisoned(settings, first):
    """A challenger that learnt from turned labels, with the true ones of the newest month to be measured on."""
    served = (settings.home / "bundles" / "champion.json").read_bytes()
    made = challenge(settings, two_months(1500, poisoned=True), months_later=1)
    return made, promote(settings, made), served


def test_28_poisoned_labels_change_nothing_that_serves(settings, first, poisoned):
    made, verdict, served = poisoned
    assert not verdict.promote
    assert "log loss against the champion" in verdict.why
    assert version_of(settings, "champion") == first.registered
    assert (settings.home / "bundles" / "champion.json").read_bytes() == served
    assert Bundle.load(champion(settings.home)).digest == first.bundle.digest
    # It stays as what it is, with the reason beside it.
    assert version_of(settings, "challenger") == made.registered
    assert tags(settings, "2")["verdict"] == "refused"
    assert tags(settings, "2")["why"] == verdict.why
    assert tags(settings, "1")["verdict"] == "promoted"


def test_an_equal_challenger_takes_over_for_its_data_are_newer(settings, first, poisoned):
    made = challenge(settings, two_months(1500), months_later=2)
    assert champion_metrics(settings, made) == made.fitted.metrics  # the very same model, made later
    verdict = promote(settings, made)
    assert verdict.promote, verdict.why
    assert made.bundle.digest != first.bundle.digest
    assert pointer(settings)["digest"] == version_of(settings, "champion").bundle_digest == made.bundle.digest
    # Deciding again about the champion itself changes nothing.
    before = pointer(settings)
    assert promote(settings, made).promote
    assert (pointer(settings), version_of(settings, "champion")) == (before, made.registered)


def test_a_challenger_measured_on_nothing_certain_is_refused(settings, first, poisoned):
    made, _, _ = poisoned
    unknown = replace(made, fitted=replace(made.fitted, metrics=replace(made.fitted.metrics, roc_auc=float("nan"))))
    before = pointer(settings)
    assert not promote(settings, unknown).promote
    assert pointer(settings) == before


def test_old_bundles_stay_for_whoever_must_go_back(settings, first, poisoned):
    made, _, _ = poisoned
    for bundle in (first.bundle, made.bundle):
        assert Bundle.load(settings.home / "bundles" / bundle.digest).digest == bundle.digest
