"""A year of simulated customers on a real Prefect server and worker: one landing a month, prices rise in the ninth."""

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
from bentos.bundle.ledger import entries
from bentos.bundle.rollout import rollout
from bentos.economics import load_economics
from configs.settings import Settings, load_settings
from feature_repo.contract import CUSTOMER, OBSERVED_AT
from feature_repo.raw.world.manifest import World, scored_at
from feature_repo.raw.world.simulate import simulate
from feature_repo.stores.as_known import features_as_known
from feature_repo.stores.opening import open_store
from flows.serve import Running, ask, free_port
from tests.prefect_world import Prefect, prefect_server
from tests.serving_world import serving
from training.registry import tracking_uri

CUSTOMERS, MONTHS, SEED = 1500, 12, 7
BROKEN, DRIFT = 5, 9
SWAP_S = 10
pytestmark = pytest.mark.timeout(1500)


@dataclass
class Year:
    """What happened, month by month (1 is the first extract)."""

    world: World
    settings: Settings
    prefect: Prefect
    champions: dict[int, str] = field(default_factory=dict)
    drifted: dict[int, list[str]] = field(default_factory=dict)
    retrained: dict[int, str] = field(default_factory=dict)
    swapped_s: dict[int, float] = field(default_factory=dict)
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
        return scored_at(self.world.snapshots[month - 1]).isoformat()


def spoilt(extract: Path, out: Path) -> Path:
    """An extract whose labels are no labels."""
    out.write_text(extract.read_text("utf-8").replace(",Yes\n", ",Maybe\n"), "utf-8")
    return out


def serving_digests(url: str) -> set[str]:
    """Which bundles answer: several questions, so that each of the workers is asked."""
    return {ask(f"{url}/metadata")[1]["bundle_digest"] for _ in range(12)}


@pytest.fixture(scope="module")
def year(tmp_path_factory):
    folder = tmp_path_factory.mktemp("year")
    world = simulate(folder / "world", CUSTOMERS, MONTHS, SEED, date(2025, 1, 31), "price_rise", DRIFT, jsonl=False)
    env = {
        "CHURN_HOME": str(folder / "home"),
        "CHURN_TRAINING__TRIALS": "2",
        # Nearly three months: two drifts in a row are one.
        "CHURN_RETRAINING__COOL_DOWN_H": "2000",
        # A thousand held-out rows tell a model's profit to about 20 cents.
        "CHURN_PROMOTION__PROFIT_MARGIN_USD": "0.25",
    }
    settings = load_settings(home=folder / "home")
    with prefect_server(folder, env) as prefect:
        prefect.deploy()
        prefect.pause_schedules()
        lived = Year(world, settings, prefect)
        with prefect.worker():
            live(lived, folder)
        yield lived


def live(year: Year, folder: Path) -> None:
    prefect, running = year.prefect, None
    try:
        for month in range(1, MONTHS + 1):
            if month == BROKEN:
                year.broken = break_month(year, folder)
            year.deliver(month)
            run = prefect.run("lifecycle/by-hand", now=year.now(month), scoring=month == MONTHS)
            assert run.state.is_completed(), f"month {month}: {run.state.message}; {prefect.worker_log()[-3000:]}"
            report = newest_report(year)
            assert report["observed_at"] == year.now(month)
            if report["drift"]:
                year.drifted[month] = report["drifted"]
                before = rollout(year.home).champion
                year.retrained[month] = drift_run(year, month).state.name
                after = rollout(year.home).champion
                if running is not None and after != before:
                    year.swapped_s[month] = swapped(running.base_url, after)
            year.champions[month] = rollout(year.home).champion
            if running is None:
                running = Running(serving(year.settings, port=free_port(), workers=2)).wait("/readyz", 90)
    finally:
        if running is not None:
            running.stop()


def break_month(year: Year, folder: Path) -> dict[str, object]:
    """Let a month arrive with spoilt labels, and see what the run leaves."""
    day = year.world.snapshots[BROKEN - 1]
    pointer = year.home / "bundles" / "champion.json"
    before = pointer.read_bytes(), sorted((year.home / "offline" / "customer_snapshot").iterdir())
    year.put(spoilt(year.world.extract(day), folder / "spoilt.csv"), f"telco_{day}.csv")
    run = year.prefect.run("lifecycle/by-hand", now=year.now(BROKEN))
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
    ends_at = time.monotonic() + 90
    while time.monotonic() < ends_at:
        for run in year.prefect.runs("retrain"):
            if run.deployment_id and run.parameters.get("now") == year.now(month):
                return year.prefect.wait(run)
        time.sleep(0.5)
    pytest.fail(f"no retraining started by itself in month {month}")


def swapped(url: str, digest: str) -> float:
    """Seconds until nobody but ``digest`` answers."""
    began = time.monotonic()
    while serving_digests(url) != {digest}:
        if time.monotonic() - began > SWAP_S:
            pytest.fail(f"the service still answers with another model after {SWAP_S} s")
        time.sleep(0.2)
    return time.monotonic() - began


def test_a_failed_gate_blocks_everything_and_says_why(year):
    broken = year.broken
    assert broken["run"].state.name == "Failed"
    assert "label_domain" in broken["run"].state.message
    assert [name for name in broken["children"] if name != "refresh"] == []
    assert "label" in broken["artifact"]
    assert "Refused" in broken["artifact"]
    assert broken["unchanged"]
    assert broken["inbox"] == [f"telco_{year.world.snapshots[BROKEN - 1]}.csv"]
    # The mended file takes its place, and the year goes on.
    assert year.champions[BROKEN]


def test_the_drift_is_seen_and_a_training_starts_by_itself(year):
    assert {"price_change_usd_90d", "days_since_price_change"} & set(year.drifted[DRIFT])
    started = [run for run in year.prefect.runs("retrain") if run.parameters.get("reason") == "drift"]
    assert {run.parameters["now"] for run in started} == {year.now(month) for month in year.drifted}
    assert year.retrained[DRIFT] == "Completed"


def test_a_cool_down_holds_the_next_drift_back(year):
    """Windows over events fill up in the first three months, which is a drift too."""
    assert {month: year.retrained.get(month) for month in (2, 3)} == {2: "Skipped", 3: "Skipped"}
    assert "Skipped" not in {year.retrained.get(month) for month in (4, DRIFT)}


def test_the_new_champion_is_promoted_with_its_reason_in_the_ledger(year):
    month = year.now(DRIFT)
    promoted = [each for each in entries(year.home) if each.action == "promote" and each.details["as_of"] >= month]
    assert promoted, "no promotion after the drift"
    assert promoted[0].who == "flow deploy"
    assert "drift: " in promoted[0].why
    assert promoted[0].before["champion"] == year.champions[DRIFT - 1]
    assert promoted[-1].after["champion"] == year.champions[MONTHS]


def test_the_running_service_follows(year):
    promoted_in = [
        month for month in year.champions if month > 1 and year.champions[month] != year.champions[month - 1]
    ]
    assert set(promoted_in) <= set(year.swapped_s) | {1, 2}
    assert max(year.swapped_s.values()) < SWAP_S


def test_the_new_champion_earns_more_than_the_frozen_one(year):
    """Expected profit by the true hazard, over all customers of the months after the promotion."""
    frozen = Bundle.load(year.home / "bundles" / year.champions[DRIFT - 1])
    earned = {"frozen": 0.0, "followed": 0.0}
    for month in range(DRIFT, MONTHS + 1):
        followed = Bundle.load(year.home / "bundles" / year.champions[month])
        for name, bundle in {"frozen": frozen, "followed": followed}.items():
            earned[name] += profit(year, month, bundle)
    assert earned["followed"] > earned["frozen"], earned


def profit(year: Year, month: int, bundle: Bundle) -> float:
    snapshot = year.world.snapshots[month - 1]
    truth = pd.read_parquet(year.world.truth(snapshot)).dropna(subset=["hazard"])
    keys = truth[[CUSTOMER]].assign(**{OBSERVED_AT: pd.Timestamp(scored_at(snapshot))})
    features = features_as_known(open_store(year.settings), keys, bundle.manifest.service)
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
    serves = rollout(year.home)
    digest = {str(version.version): version.tags["bundle_digest"] for version in versions}
    assert digest[aliases["champion"]] == serves.champion
    assert digest[aliases["previous"]] == serves.previous


def test_everybody_was_scored_with_the_last_champion(year):
    latest = json.loads((year.home / "scores" / "latest.json").read_text("utf-8"))
    assert year.champions[MONTHS][:12] in json.dumps(latest)


def test_results_are_json_and_nothing_else(year):
    kept = [path for path in (year.prefect.folder / "prefect" / "storage").rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        assert json.loads(path.read_text("utf-8")) is not None, path
