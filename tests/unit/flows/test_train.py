"""Where a model comes from, and what the champion is measured on."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from bentos.bundle import Bundle, champion, set_champion
from configs.settings import PROJECT_ROOT, TrainingSettings, load_settings
from feature_repo.contract import LABEL
from flows.train import Challenger, champion_metrics, fit_challenger, git_commit, provenance
from tests.small_model import publish_month, saved, simulated, training_set
from training.economics import load_economics
from training.metrics import measure
from training.registry import Registered

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
D0, D1 = date(2026, 1, 31), date(2026, 3, 2)


@pytest.fixture(scope="module")
def challenger(tmp_path_factory):
    """A fitted and saved challenger that was never registered: measuring needs no registry."""
    settings = load_settings(home=tmp_path_factory.mktemp("home"))
    plan = TrainingSettings(seed=7, trials=1, tuning_timeout_s=60, folds=2, test_share=0.25)
    rows = training_set(simulated())
    fitted, bundle = fit_challenger(settings.model_copy(update={"training": plan}), rows, NOW)
    return settings, Challenger(fitted, bundle, Registered("1", "run", bundle.digest), rows)


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


def test_a_fitted_challenger_is_saved_and_not_promoted(challenger):
    settings, made = challenger
    assert Bundle.load(settings.home / "bundles" / made.bundle.digest).manifest == made.bundle.manifest
    assert not (settings.home / "bundles" / "champion.json").exists()
    assert (settings.home / "optuna" / "journal.log").is_file()


def test_without_a_champion_there_is_nothing_to_compare_with(tmp_path, challenger):
    assert champion_metrics(load_settings(home=tmp_path), challenger[1]) is None


def test_the_champion_is_measured_on_the_challengers_held_out_rows(tmp_path, challenger):
    _, made = challenger
    incumbent, _ = saved(tmp_path)
    set_champion(tmp_path, incumbent.digest, "1")
    test, rows = made.fitted.test, made.training_set
    expected = measure(
        rows.churned.to_numpy(dtype=bool)[test], incumbent.score(rows.features.iloc[test]), load_economics()
    )
    assert champion_metrics(load_settings(home=tmp_path), made) == expected
    assert expected.rows == made.fitted.metrics.rows == len(test)
    # Other labels, other figures: it is measured now, not remembered.
    turned = replace(rows, keys=rows.keys.assign(**{LABEL: ~rows.churned}))
    other = champion_metrics(load_settings(home=tmp_path), replace(made, training_set=turned))
    assert other.roc_auc == pytest.approx(1 - expected.roc_auc, abs=1e-9)


@pytest.mark.parametrize("fault", ["damaged", "missing", "pointer", "contract"])
def test_a_champion_that_can_not_score_leaves_the_challenger_to_the_floors(tmp_path, challenger, fault):
    incumbent, folder = saved(tmp_path)
    set_champion(tmp_path, incumbent.digest, "1")
    if fault == "damaged":
        (folder / "trees.ubj").write_bytes(b"")
    elif fault == "missing":
        (folder / "manifest.json").unlink()
    elif fault == "pointer":
        (tmp_path / "bundles" / "champion.json").write_text("{")
    else:
        other, _ = saved(tmp_path, contract_hash="0" * 64)
        set_champion(tmp_path, other.digest, "2")
        assert json.loads((champion(tmp_path) / "manifest.json").read_text())["contract_hash"] == "0" * 64
    assert champion_metrics(load_settings(home=tmp_path), challenger[1]) is None
