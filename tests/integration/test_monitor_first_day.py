"""The first days after the bootstrap: today's customers are beside those who were customers when it came."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

from configs.settings import load_settings
from flows.steps.monitor import run_monitor
from tests.support import customer_base
from tests.support.single_extract import simulate_snapshot


@pytest.fixture
def copied(telco, tmp_path):
    for kept in ("bundles", "heldout", "ledger", "raw", "processed", "offline", "feast", "reports"):
        if (telco.settings.home / kept).exists():
            shutil.copytree(telco.settings.home / kept, tmp_path / kept)
    return telco.settings.model_copy(update={"home": tmp_path})


def test_the_public_file_shows_no_drift_on_its_first_days(telco, copied):
    for day in (0, 1, 29):
        report = run_monitor(copied, telco.now + timedelta(days=day, hours=7))
        assert report.drifted == []
        assert report.customers == int((~telco.snapshot["churned"].astype(bool)).sum())
    score = next(row for row in report.rows if row.kind == "score")
    assert 0 < score.psi < score.bound
    # The held-out rows without those who left by the very extract; how many left is told of all.
    kept = load_baseline(copied, report)
    assert score.reference_rows == kept["rows"] - kept["churned"]


def test_a_baseline_of_an_earlier_version_is_made_again(telco, copied):
    at = telco.now + timedelta(hours=7)
    first = run_monitor(copied, at)
    path = copied.home / "baselines" / f"{first.champion}.json"
    before = path.read_text()
    path.write_text(before.replace('"format": 2', '"format": 1'))
    assert run_monitor(copied, at).rows == first.rows
    assert path.read_text() == before


def load_baseline(settings, report):
    import json

    return json.loads((settings.home / "baselines" / f"{report.champion}.json").read_text())


@pytest.mark.parametrize("seed", range(4))
def test_a_simulated_bootstrap_shows_none_and_a_drift_on_top_of_it_is_found(tmp_path, seed):
    settings = load_settings(home=tmp_path / "home")
    rows = simulate_snapshot(2500, seed)
    customer_base.deliver(settings, 0, rows)
    customer_base.crown(settings, customer_base.bundle(settings.home), 0)
    at = customer_base.scored(0) + timedelta(hours=1)
    assert run_monitor(settings, at).drifted == []
    # The next extract: the same customers, dearer; the leavers are gone.
    stayed = rows[rows["Churn"] == "No"]
    dearer = stayed.assign(MonthlyCharges=(stayed["MonthlyCharges"].astype(float) * 1.4).map("{:.2f}".format))
    customer_base.deliver(settings, 1, dearer.reset_index(drop=True))
    found = run_monitor(settings, customer_base.scored(1) + timedelta(hours=1))
    assert "monthly_charges_usd" in found.drifted
    assert {row.name for row in found.rows if row.kind == "feature" and row.status == "drift"} <= {
        "monthly_charges_usd",
        "charge_per_service_usd",
        "charges_gap_usd",
        "expected_total_usd",
    } | {row.name for row in found.rows if "charge" in row.name or "usd" in row.name}
