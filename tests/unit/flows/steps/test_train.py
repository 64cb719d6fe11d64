"""Where a model comes from, and what a fit leaves behind."""

from __future__ import annotations

import subprocess
from dataclasses import asdict
from datetime import UTC, date, datetime

import pandas as pd
import pytest

from bentos.bundle import Bundle
from bentos.rollout.rollout import read_rollout
from configs.settings import PROJECT_ROOT, TrainingSettings, load_settings
from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT
from flows.steps.train import SEEN, _trained, fit_and_save_challenger, git_commit, provenance
from tests.support.small_model import publish_month, simulated, training_set
from training.data.heldout import read_heldout
from training.registry import FINGERPRINT, RegisteredVersion

pytestmark = pytest.mark.slow

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
D0, D1 = date(2026, 1, 31), date(2026, 3, 2)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A fitted and saved challenger that was never registered."""
    settings = load_settings(home=tmp_path_factory.mktemp("home"))
    plan = TrainingSettings(seed=7, trials=1, tuning_timeout_s=60, folds=2, test_share=0.25)
    rows = training_set(simulated())
    return settings, rows, *fit_and_save_challenger(settings.model_copy(update={"training": plan}), rows, NOW)


@pytest.mark.parametrize(
    ("months", "snapshots", "time"),
    [
        ([], (), "declared"),
        ([(D0, False)], ("2026-01-31.v1",), "declared"),
        ([(D0, False), (D0, True)], ("2026-01-31.v2",), "declared"),
        ([(D0, False), (D1, False)], ("2026-01-31.v1", "2026-03-02.v1"), "observed"),
        ([(D0, False), (D1, False), (D1, True)], ("2026-01-31.v1", "2026-03-02.v2"), "observed"),
    ],
)
def test_provenance_names_the_live_snapshots_and_their_time(tmp_path, months, snapshots, time):
    home = tmp_path / "home"
    for again, (day, replacing) in enumerate(months):
        publish_month(home, day, {f"c{number}": "No" for number in range(2 + again)}, replace=replacing)
    found = provenance(load_settings(home=home), NOW)
    assert (found.snapshots, found.time, found.created_at) == (snapshots, time, NOW)
    assert found.git_commit == git_commit()


def test_the_commit_is_the_checkouts():
    asked = subprocess.run(
        ["git", "-C", str(PROJECT_ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    assert git_commit() == (asked.stdout.strip() or "unknown")


def test_a_fitted_challenger_is_saved_and_does_not_serve(fitted):
    settings, _, _, bundle = fitted
    assert Bundle.load(settings.home / "bundles" / bundle.digest).manifest == bundle.manifest
    assert read_rollout(settings.home) is None
    assert (settings.home / "optuna" / "journal.log").is_file()


def test_the_rows_it_was_measured_on_are_kept_with_it(fitted):
    settings, rows, model, bundle = fitted
    kept = read_heldout(settings.home, bundle.digest)
    expected = rows.keys.iloc[model.test][[CUSTOMER, OBSERVED_AT, LABEL]].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, expected)
    assert bundle.manifest.metrics["rows"] == len(kept)


def test_a_challenger_is_told_by_its_tags_and_a_version_without_them_claims_nothing():
    tags = {FINGERPRINT: "f1", "model_version": "20260601T120000", SEEN: "0"}
    told = asdict(_trained(RegisteredVersion("3", "run", "d1", tags), fresh=True))
    assert told == {
        "fingerprint": "f1",
        "digest": "d1",
        "model_version": "20260601T120000",
        "version": "3",
        "run_id": "run",
        "seen_rows": 0,
        "fresh": True,
    }
    # Of an older version nobody knows what it was fitted on: below 0 no verdict lets it pass.
    assert _trained(RegisteredVersion("1", "run", "d0"), fresh=False).seen_rows < 0
