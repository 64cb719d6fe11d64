"""Months of simulated customers on a real Prefect server and worker: one landing a month, until prices rise."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from bentos.bundle import Bundle
from bentos.decisions.economics import load_economics
from bentos.rollout.ledger import read_ledger
from bentos.rollout.rollout import read_rollout
from configs.settings import Settings, load_settings
from feature_repo.contract import CUSTOMER, OBSERVED_AT
from feature_repo.raw.simulator.manifest import World, available_at
from feature_repo.raw.simulator.simulate import simulate
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.historical_features import get_historical_features
from flows.service_process import ServiceProcess, free_port, request_json
from tests.support.prefect_server import PATIENCE_S, Prefect, prefect_server
from tests.support.serving_home import serving
from training.mlflow_database import tracking_uri

CUSTOMERS, SEED = 1500, 7
pytestmark = pytest.mark.timeout(1500)


@dataclass(frozen=True)
class Plan:
    """What is to happen; months are counted from 1, the first extract."""

    months: int
    broken: int
    drift: int
    cool_down_h: int
    significance: float
    """Of "better than the champion": the held-out rows of two months show less than those of eight."""
    held_back: tuple[int, ...]
    """The months whose drift comes too soon after a training."""
    retrained: tuple[int, ...]


# Windows over events fill up in the first three months, which is a drift too.
QUARTER = Plan(3, 2, 3, 1000, 0.3, held_back=(2,), retrained=(3,))
# Nearly three months: two drifts in a row are one.
TWELVE = Plan(12, 5, 9, 2000, 0.05, held_back=(2, 3), retrained=(4, 9))
WHOLE_YEAR = pytest.mark.parametrize("year", [pytest.param(TWELVE, id="a year", marks=pytest.mark.full)], indirect=True)
"""For what three months are too short for."""


@dataclass
class Year:
    """What happened, month by month."""

    plan: Plan
    world: World
    settings: Settings
    prefect: Prefect
    champions: dict[int, str] = field(default_factory=dict)
    drifted: dict[int, list[str]] = field(default_factory=dict)
    retrained: dict[int, str] = field(default_factory=dict)
    swapped: set[int] = field(default_factory=set)
    broken: dict[str, object] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.settings.home

    def put(self, source: Path, name: str) -> None:
        """Copy a file into the inbox as the documentation says: it appears whole."""
        hidden = self.home / "inbox" / f".{name}"
        hidden.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, hidden)
        hidden.rename(self.home / "inbox" / name)

    def deliver(self, month: int) -> None:
        """Let a month's files arrive: the extract, and the events up to it."""
        day = self.world.snapshots[month - 1]
        self.put(self.world.extract(day), f"telco_{day}.csv")
        for observed in self.world.observation_dates[0 if month == 1 else month : month + 1]:
            self.put(self.world.events(observed), f"events_{observed}.parquet")

    def now(self, month: int) -> str:
        return available_at(self.world.snapshots[month - 1]).isoformat()


def spoilt(extract: Path, out: Path) -> Path:
    """An extract whose labels are no labels."""
    out.write_text(extract.read_text("utf-8").replace(",Yes\n", ",Maybe\n"), "utf-8")
    return out


def serving_digests(url: str) -> set[str]:
    """Which bundles answer: several questions, so that each of the workers is asked."""
    return {request_json(f"{url}/metadata")[1]["bundle_digest"] for _ in range(12)}


@pytest.fixture(
    scope="module",
    params=[pytest.param(QUARTER, id="a quarter"), pytest.param(TWELVE, id="a year", marks=pytest.mark.full)],
)
def year(request, tmp_path_factory):
    plan: Plan = request.param
    folder = tmp_path_factory.mktemp("year")
    start = date(2025, 1, 31)
    world = simulate(folder / "world", CUSTOMERS, plan.months, SEED, start, "price_rise", plan.drift, jsonl=False)
    env = {
        "CHURN_HOME": str(folder / "home"),
        "CHURN_TRAINING__TRIALS": "2",
        "CHURN_RETRAINING__COOL_DOWN_H": str(plan.cool_down_h),
        "CHURN_PROMOTION__SIGNIFICANCE": str(plan.significance),
        # A thousand held-out rows tell a model's profit to about 20 cents.
        "CHURN_PROMOTION__PROFIT_MARGIN_USD": "0.25",
    }
    settings = load_settings(home=folder / "home")
    with prefect_server(folder, env) as prefect:
        prefect.deploy()
        prefect.pause_schedules()
        lived = Year(plan, world, settings, prefect)
        with prefect.worker():
            live(lived, folder)
        yield lived


def live(year: Year, folder: Path) -> None:
    plan, prefect, running = year.plan, year.prefect, None
    try:
        for month in range(1, plan.months + 1):
            if month == plan.broken:
                year.broken = break_month(year, folder)
            year.deliver(month)
            scoring = month == plan.months and month not in plan.retrained
            run = prefect.run("lifecycle/lifecycle-by-hand", now=year.now(month), scoring=scoring)
            assert run.state.is_completed(), f"month {month}: {run.state.message}; {prefect.worker_log()[-3000:]}"
            report = newest_report(year)
            assert report["observed_at"] == year.now(month)
            if report["drift"]:
                year.drifted[month] = report["drifted"]
                before = read_rollout(year.home).champion
                year.retrained[month] = drift_run(year, month).state.name
                after = read_rollout(year.home).champion
                if running is not None and after != before:
                    wait_for_swap(running.base_url, after)
                    year.swapped.add(month)
            year.champions[month] = read_rollout(year.home).champion
            if running is None:
                running = ServiceProcess(serving(year.settings, port=free_port(), workers=2)).wait(
                    "/readyz", PATIENCE_S
                )
        if plan.months in plan.retrained:
            scored = prefect.run("score_base/monthly", now=year.now(plan.months))
            assert scored.state.is_completed(), scored.state.message
    finally:
        if running is not None:
            running.stop()


def break_month(year: Year, folder: Path) -> dict[str, object]:
    """Let a month arrive with spoilt labels, and see what the run leaves."""
    day = year.world.snapshots[year.plan.broken - 1]
    pointer = year.home / "bundles" / "champion.json"
    before = pointer.read_bytes(), sorted((year.home / "offline" / "customer_snapshot").iterdir())
    year.put(spoilt(year.world.extract(day), folder / "spoilt.csv"), f"telco_{day}.csv")
    run = year.prefect.run("lifecycle/lifecycle-by-hand", now=year.now(year.plan.broken))
    return {
        "run": run,
        "children": year.prefect.children(run),
        "artifact": year.prefect.artifact("gate"),
        "unchanged": before == (pointer.read_bytes(), sorted((year.home / "offline" / "customer_snapshot").iterdir())),
        "inbox": sorted(path.name for path in (year.home / "inbox").glob("telco*")),
    }


def newest_report(year: Year) -> dict[str, object]:
    return json.loads(max((year.home / "reports" / "monitor").glob("*.json")).read_text("utf-8"))


def drift_run(year: Year, month: int):
    """The retraining that the drift of a month started, at its end."""
    ends_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends_at:
        for run in year.prefect.runs("retrain"):
            if run.deployment_id and run.parameters.get("now") == year.now(month):
                return year.prefect.wait(run)
        time.sleep(0.5)
    pytest.fail(f"no retraining started by itself in month {month}")


def wait_for_swap(url: str, digest: str) -> None:
    """Wait until ``digest`` alone answers."""
    ends_at = time.monotonic() + PATIENCE_S
    while serving_digests(url) != {digest}:
        assert time.monotonic() < ends_at, "the service still answers with another model"
        time.sleep(0.2)


def test_a_failed_gate_blocks_everything_and_says_why(year):
    broken = year.broken
    assert broken["run"].state.name == "Failed"
    assert "label_domain" in broken["run"].state.message
    assert [name for name in broken["children"] if name != "refresh"] == []
    assert "label" in broken["artifact"]
    assert "Refused" in broken["artifact"]
    assert broken["unchanged"]
    assert broken["inbox"] == [f"telco_{year.world.snapshots[year.plan.broken - 1]}.csv"]
    # The mended file takes its place, and the year goes on.
    assert year.champions[year.plan.broken]


def test_the_drift_is_seen_and_a_training_starts_by_itself(year):
    assert {"price_change_usd_90d", "days_since_price_change"} & set(year.drifted[year.plan.drift])
    started = [run for run in year.prefect.runs("retrain") if run.parameters.get("reason") == "drift"]
    assert {run.parameters["now"] for run in started} == {year.now(month) for month in year.drifted}
    assert year.retrained[year.plan.drift] == "Completed"


def test_a_cool_down_holds_the_next_drift_back(year):
    plan = year.plan
    assert {month: year.retrained.get(month) for month in plan.held_back} == dict.fromkeys(plan.held_back, "Skipped")
    assert "Skipped" not in {year.retrained.get(month) for month in plan.retrained}


def test_the_new_champion_is_promoted_with_its_reason_in_the_ledger(year):
    month = year.now(year.plan.drift)
    promoted = [each for each in read_ledger(year.home) if each.action == "promote" and each.details["as_of"] >= month]
    assert promoted, "no promotion after the drift"
    assert promoted[0].who == "flow deploy"
    assert "drift: " in promoted[0].why
    assert promoted[0].before["champion"] == year.champions[year.plan.drift - 1]
    assert promoted[-1].after["champion"] == year.champions[year.plan.months]


def test_the_running_service_follows(year):
    promoted_in = [
        month for month in year.champions if month > 1 and year.champions[month] != year.champions[month - 1]
    ]
    assert set(promoted_in) <= year.swapped | {1, 2}
    assert year.swapped


@WHOLE_YEAR
def test_the_new_champion_earns_more_than_the_frozen_one(year):
    """Expected profit by the true hazard, over all customers of the months after the promotion."""
    frozen = Bundle.load(year.home / "bundles" / year.champions[year.plan.drift - 1])
    earned = {"frozen": 0.0, "followed": 0.0}
    for month in range(year.plan.drift, year.plan.months + 1):
        followed = Bundle.load(year.home / "bundles" / year.champions[month])
        for name, bundle in {"frozen": frozen, "followed": followed}.items():
            earned[name] += profit(year, month, bundle)
    assert earned["followed"] > earned["frozen"], earned


def profit(year: Year, month: int, bundle: Bundle) -> float:
    snapshot = year.world.snapshots[month - 1]
    truth = pd.read_parquet(year.world.truth(snapshot)).dropna(subset=["hazard"])
    keys = truth[[CUSTOMER]].assign(**{OBSERVED_AT: pd.Timestamp(available_at(snapshot))})
    features = get_historical_features(open_feature_store(year.settings), keys, bundle.manifest.service)
    here = features["monthly_charges_usd"].notna().to_numpy()
    hazard = truth["hazard"].to_numpy()[here]
    contacted = bundle.score(features[here]) >= bundle.manifest.threshold
    economics = load_economics()
    saved = economics.accept_mean * (economics.clv_usd - economics.incentive_usd)
    earns = hazard * saved - (1 - hazard) * economics.incentive_usd - economics.contact_usd
    return float(np.sum(earns[contacted]))


def test_every_model_was_trained_once(year):
    mlflow.set_tracking_uri(tracking_uri(year.settings))
    versions = mlflow.MlflowClient().search_model_versions("name='churn'")
    prints = [version.tags["training_fingerprint"] for version in versions]
    assert len(prints) == len(set(prints)) >= 2
    found = mlflow.MlflowClient().get_registered_model("churn").aliases
    aliases = {name: str(version) for name, version in found.items()}
    serves = read_rollout(year.home)
    digest = {str(version.version): version.tags["bundle_digest"] for version in versions}
    assert digest[aliases["champion"]] == serves.champion
    assert digest[aliases["previous"]] == serves.previous


def test_everybody_was_scored_with_the_last_champion(year):
    latest = json.loads((year.home / "scores" / "latest.json").read_text("utf-8"))
    assert year.champions[year.plan.months][:12] in json.dumps(latest)


def test_results_are_json_and_nothing_else(year):
    kept = [path for path in (year.prefect.folder / "prefect" / "storage").rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        assert json.loads(path.read_text("utf-8")) is not None, path
