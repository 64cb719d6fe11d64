"""A champion watched from month to month on extracts made by hand: what is told, what is kept, what is left out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from bentos.rollout import NoChampionError
from configs.settings import load_settings
from feature_repo.contract import CORE_SERVICE, CREATED_TIMESTAMP, CUSTOMER, EVENT_TIMESTAMP, PROJECT
from feature_repo.stores.customers import active_customers
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.materialize import materialize
from feature_repo.stores.online_features import OnlineFeatureReader
from feature_repo.stores.registration import apply
from flows.steps import monitor as watching
from flows.steps.data_age import data_ages
from flows.steps.inbox import oldest
from flows.steps.monitor import run_monitor
from monitoring.quality_report import CheckResult, GateResult, gate_to_json
from tests.support import customer_base
from tests.support.monthly_extracts import next_month
from tests.support.single_extract import simulate_snapshot
from training.data.heldout import HeldOutMissingError

CHURN = str(Path(sys.executable).with_name("churn"))
HOUR = timedelta(hours=1)
JOINERS = 120


@pytest.fixture(scope="module")
def extracts():
    """Five months of raw extracts in which nothing changes but who is there."""
    months = [customer_base.first_extract()]
    for month in range(1, 5):
        months.append(next_month(months[-1], seed=month, joiners=JOINERS))
    return months


@pytest.fixture(scope="module")
def made(tmp_path_factory, extracts):
    """A champion measured in month 2 on the labels of who was observed in month 1."""
    settings = load_settings(home=tmp_path_factory.mktemp("monitor") / "home")
    batch = settings.batch.model_copy(update={"chunk_customers": 250})
    # Five hundred customers made by hand grow old quickly: what moves in a world that lives is tested on one.
    limits = settings.monitoring.model_copy(update={"psi_max": 0.4})
    settings = settings.model_copy(update={"batch": batch, "monitoring": limits})
    for month in range(3):
        customer_base.deliver(settings, month, extracts[month])
    customer_base.crown(settings, customer_base.bundle(settings.home), 1)
    materialize(settings, customer_base.scored(2) + HOUR)
    return settings


@pytest.fixture
def copied(made, tmp_path):
    shutil.copytree(made.home, tmp_path / "home")
    return made.model_copy(update={"home": tmp_path / "home"})


def statuses(report, *kinds):
    return {row.name: row.status for row in report.rows if row.kind in kinds}


def test_a_quiet_month(copied, extracts):
    now = customer_base.scored(2) + HOUR
    report = run_monitor(copied, now)
    assert (report.drift, report.drifted) == (False, [])
    assert report.customers == report.scored == (extracts[2]["Churn"] == "No").sum()
    assert set(statuses(report, "feature", "score").values()) == {"stable"}
    # The newest labels are the very ones that it was measured on: there is nothing newer to say.
    assert statuses(report, "label") == {"churned": "insufficient data"}
    assert (report.performance.status, report.performance.rows) == ("insufficient data", 0)
    kept = json.loads((copied.home / report.report).read_text())
    assert kept["champion"] == report.champion
    assert kept["rows"][0]["name"] == "partner"
    ids = set(extracts[0]["customerID"]) | set(extracts[2]["customerID"])
    for path in (copied.home / report.report, copied.home / "baselines" / f"{report.champion}.json"):
        assert not [each for each in ids if each in path.read_text()]


@pytest.mark.parametrize(
    ("change", "drifted"),
    [
        (lambda rows: rows.assign(MonthlyCharges=(rows["MonthlyCharges"].astype(float) * 1.5).map("{:.2f}".format)),
         {"monthly_charges_usd"}),
        (lambda rows: rows.assign(PaperlessBilling="Yes"), {"paperless_billing"}),
    ],
    ids=["dearer", "paperless"],
)  # fmt: skip
def test_what_moved_is_named(copied, extracts, change, drifted):
    customer_base.deliver(copied, 3, change(extracts[3]))
    report = run_monitor(copied, customer_base.scored(3) + HOUR)
    assert report.drift
    assert drifted <= set(report.drifted) <= drifted | {"score", "calibration", "log_loss"}


def test_labels_that_are_not_mature_play_no_part(copied, extracts):
    """Everybody leaves in month 3; nobody can know before its extract has come."""
    customer_base.deliver(copied, 3, extracts[3].assign(Churn="Yes"))
    before = run_monitor(copied, customer_base.scored(3) - 2 * HOUR)
    assert (before.performance.rows, before.performance.observed_at) == (0, None)
    assert not before.drift
    after = run_monitor(copied, customer_base.scored(3) + HOUR)
    assert after.performance.observed_at == customer_base.scored(2).isoformat()
    assert after.performance.churn_rate == 1.0
    assert {"churned", "log_loss", "calibration"} <= set(after.drifted)
    assert after.performance.rows == len(
        set(extracts[2].query("Churn == 'No'")["customerID"]) & set(extracts[3]["customerID"])
    )


def test_a_report_of_a_past_instant_knows_nothing_that_came_later(copied, extracts):
    now = customer_base.scored(2) + HOUR
    before = run_monitor(copied, now)
    customer_base.deliver(copied, 3, simulate_snapshot(600, seed=50))
    customer_base.deliver(copied, 4, simulate_snapshot(600, seed=51))
    assert run_monitor(copied, now) == before


def test_the_baseline_is_counted_once_and_made_again_when_it_is_damaged_or_the_bins_change(copied):
    now = customer_base.scored(2) + HOUR
    report = run_monitor(copied, now)
    path = copied.home / "baselines" / f"{report.champion}.json"
    first, at = path.read_bytes(), path.stat().st_mtime_ns
    assert run_monitor(copied, now) == report
    assert path.stat().st_mtime_ns == at
    path.write_text("{}")
    assert run_monitor(copied, now) == report
    assert path.read_bytes() == first
    finer = copied.monitoring.model_copy(update={"bins": 20})
    run_monitor(copied.model_copy(update={"monitoring": finer}), now)
    assert json.loads(path.read_text())["bins"] == 20


def test_the_gates_newest_verdict_and_a_finding(copied, extracts):
    now = customer_base.scored(3) + HOUR
    found = run_monitor(copied, now).quality
    assert (found.snapshot, found.passed, found.failed) == (customer_base.day(2).isoformat(), True, [])
    check = CheckResult("volume", "", "rows", False, 0, 0.0, "critical", False, (), "too few", "why")
    refused = GateResult(passed=False, rows=3, blank_totals=0, quarantined=(), checks=(check,))
    folder = copied.home / "reports" / "gate"
    folder.mkdir(parents=True)
    (folder / f"{customer_base.day(3)}-0123456789ab.json").write_text(gate_to_json(refused))
    found = run_monitor(copied, now).quality
    assert (found.snapshot, found.passed, found.failed) == (customer_base.day(3).isoformat(), False, ["volume"])
    # Once a good file of that day is live, the refused one is history.
    customer_base.deliver(copied, 3, extracts[3])
    assert run_monitor(copied, now).quality.passed
    (live,) = copied.home.glob(f"processed/{customer_base.day(3)}/versions/*")
    counts = {"before": "x", "customers_before": 100, "joined": 0, "returned": 0, "left": 0, "vanished": 50}
    (live / "movements.json").write_text(json.dumps({**counts, "customers": 50}))
    assert "50 of 100 customers (50.0%) vanished" in run_monitor(copied, now).quality.finding
    for put in (lambda path: path.write_text("{}"), os.mkfifo):
        (live / "gate.json").unlink()
        put(live / "gate.json")
        found = run_monitor(copied, now).quality
        assert (found.passed, found.failed) == (False, ["unreadable report"])


def test_ages_of_values_and_of_their_copy_online(copied, tmp_path):
    now = customer_base.scored(2) + HOUR
    assert {age.name: age.status for age in data_ages(copied, now)} == {"snapshot": "fresh", "online store": "fresh"}
    found = {age.name: age for age in data_ages(copied, now + timedelta(days=36))}
    assert {name: age.status for name, age in found.items()} == {"snapshot": "stale", "online store": "stale"}
    assert found["online store"].age_h == pytest.approx(36 * 24)
    assert found["snapshot"].newest == f"{customer_base.day(2)}T00:00:00+00:00"
    empty = data_ages(load_settings(home=tmp_path / "empty"), now)
    assert {age.name: age.status for age in empty} == {"snapshot": "unknown", "online store": "unknown"}


def test_what_is_not_landed_grows_old_although_the_values_are_fresh(copied):
    inbox = copied.home / "inbox"
    (inbox / "landed").mkdir(parents=True)
    now = datetime.now(UTC) + timedelta(days=1)
    values = data_ages(copied, now)
    assert "inbox" not in {age.name for age in values}
    (inbox / "events_a.parquet").mkdir()
    for hours, status in ((35, "fresh"), (37, "stale")):
        *others, lying = data_ages(copied, oldest(copied.home) + timedelta(hours=hours))
        assert (lying.name, lying.status, lying.age_h) == ("inbox", status, hours)
        assert [age.name for age in others] == [age.name for age in values]
    # As of a time before it came it is not there.
    assert "inbox" not in {age.name for age in data_ages(copied, customer_base.scored(2) + HOUR)}


def test_the_age_of_the_copy_is_not_what_a_run_asked_for(copied):
    """A watermark in the future, and one of a store that was lost, make nothing fresh."""
    now = customer_base.scored(2) + HOUR
    store = open_feature_store(copied)
    for view in store.list_feature_views():
        store.registry.apply_materialization(view, PROJECT, now, datetime(2400, 1, 1, tzinfo=UTC))
    found = {age.name: age for age in data_ages(copied, now + timedelta(days=36))}
    assert found["online store"].status == "stale"
    assert found["online store"].age_h >= 36 * 24
    (copied.home / "feast" / "online.db").unlink()
    apply(copied)
    assert {age.name: age.status for age in data_ages(copied, now)} == {"snapshot": "fresh", "online store": "unknown"}
    materialize(copied, now)
    assert {age.name: age.status for age in data_ages(copied, now)} == {"snapshot": "fresh", "online store": "fresh"}
    assert open_feature_store(copied).get_feature_view("customer_billing").most_recent_end_time == now


def test_rows_that_a_later_one_holds_up_are_counted_and_replaced_on_demand(copied):
    now = customer_base.scored(2) + HOUR
    store = open_feature_store(copied)
    customer = next(active_customers(copied, now, 1))[0]
    read = OnlineFeatureReader(store, CORE_SERVICE)
    (before,) = read.read([customer], now)
    view = store.get_feature_view("customer_billing")
    row = {feature.name: [value] for feature, value in zip(read.features, before.values, strict=True)}
    wanted = {feature.name: row[feature.name] for feature in view.features if feature.name != CUSTOMER}
    later = {EVENT_TIMESTAMP: [now], CREATED_TIMESTAMP: [now], "monthly_charges_usd": [1.0]}
    store.write_to_online_store("customer_billing", pd.DataFrame({CUSTOMER: [customer], **wanted, **later}))
    assert materialize(copied, now).kept == {"customer_billing": 1}
    assert dict(zip((f.name for f in read.features), read.read([customer], now)[0].values, strict=True))[
        "monthly_charges_usd"
    ] == pytest.approx(1.0)
    assert materialize(copied, now, overwrite_newer=True).kept == {}
    assert read.read([customer], now)[0].values == before.values


def test_without_a_champion_or_its_rows_it_says_so(copied, tmp_path):
    with pytest.raises(NoChampionError):
        run_monitor(load_settings(home=tmp_path / "empty"), customer_base.scored(2))
    shutil.rmtree(copied.home / "heldout")
    with pytest.raises(HeldOutMissingError) as refused:
        run_monitor(copied, customer_base.scored(2) + HOUR)
    assert "churn train" in refused.value.hint


def test_the_command(copied):
    environment = {**os.environ, "CHURN_HOME": str(copied.home), "COLUMNS": "160"}
    ended = subprocess.run([CHURN, "monitor"], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for told in ("PSI", "held-out rows of model", "snapshot:", "drift:", "report:"):
        assert told in ended.stdout
    assert list((copied.home / watching.REPORTS).glob("*.json"))
