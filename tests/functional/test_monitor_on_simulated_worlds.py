"""What the monitor says of worlds whose drift is known: quiet months are quiet, and what happens is named at once."""

from __future__ import annotations

import shutil
from datetime import date, timedelta

import pytest

from bentos.rollout.rollout import promote
from configs.settings import load_settings
from feature_repo.contract import BEHAVIOR, BEHAVIOR_SERVICE, features_of
from feature_repo.raw.simulator.manifest import World, available_at
from feature_repo.raw.simulator.simulate import simulate
from feature_repo.stores.registration import apply
from flows.demo.replay_world import replay_world
from flows.steps import monitor as watching
from flows.steps.build_features import build_activity, build_features
from flows.steps.ingest_snapshot import ingest_snapshot
from flows.steps.monitor import run_monitor
from flows.steps.train import fit_and_save_challenger
from tests.support.world_manifest import write_world_json
from training.data.labels import load_labels
from training.data.training_set import load_training_set

CUSTOMERS, TRAINED, DRIFT, MONTHS = 1500, 5, 6, 7
START = date(2025, 1, 31)


def lived(folder, drift, months=MONTHS):
    """Live a world through and build its features; gives the settings and the instants at which it is watched."""
    world = simulate(folder / "world", CUSTOMERS, months, 11, START, jsonl=False, drift=drift, drift_month=DRIFT)
    settings = load_settings(home=folder / "home")
    replay_world(settings, world)
    build_activity(settings)
    build_features(settings)
    apply(settings)
    return settings, [available_at(day) + timedelta(hours=1) for day in world.snapshots]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The world without drift, with a champion of what was known in month TRAINED."""
    settings, instants = lived(tmp_path_factory.mktemp("quiet"), "none")
    labels = load_labels(settings.home, settings.data)
    # The last labels that the extract of month TRAINED gave are of who was observed a month before.
    known = labels[labels["observed_at"] < available_at(START + timedelta(days=30 * (TRAINED - 1)))]
    rows = load_training_set(settings, known, BEHAVIOR_SERVICE)
    plan = settings.training.model_copy(update={"trials": 1})
    _, bundle = fit_and_save_challenger(settings.model_copy(update={"training": plan}), rows, instants[TRAINED - 1])
    promote(settings.home, bundle.digest, who="tests", why="a champion", now=instants[TRAINED - 1])
    return settings, instants


def watched(quiet, tmp_path, drift, months=DRIFT):
    """Watch another world with the champion of the quiet one: until the drift sets in they are the same."""
    settings, instants = lived(tmp_path, drift, months)
    for kept in ("bundles", "heldout", "ledger"):
        shutil.copytree(quiet[0].home / kept, settings.home / kept)
    before = run_monitor(settings, instants[DRIFT - 2])
    assert not before.drift
    return run_monitor(settings, instants[months - 1])


def test_months_in_which_nothing_happens_raise_no_alarm(quiet):
    settings, instants = quiet
    for now in instants[TRAINED - 1 :]:
        report = run_monitor(settings, now)
        assert report.drifted == []
        assert report.customers == report.scored > CUSTOMERS / 2
    assert report.performance.status == "stable"


def test_a_late_correction_is_no_drift_of_windows_that_end_after_the_last_event(quiet, tmp_path, monkeypatch):
    """A history is loaded, and a month after its last event a correction of an old extract arrives."""
    settings, instants = quiet
    shutil.copytree(settings.home, tmp_path / "home")
    copied = settings.model_copy(update={"home": tmp_path / "home"})
    world = World.load(settings.home.parent / "world")
    day, late = world.snapshots[-3], instants[-1] + timedelta(days=30)
    lines = world.extract(day).read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "corrected.csv").write_text("".join([lines[0], *lines[2:]]), "utf-8")
    write_world_json(tmp_path / "corrected.csv")
    ingest_snapshot(copied, tmp_path / "corrected.csv", day, ingested_at=late, replace=True)
    build_features(copied)
    report = run_monitor(copied, late + timedelta(hours=1))
    assert (report.drift, report.drifted, report.windows_judged) == (False, [], False)
    assert report.known_at > report.events_until
    judged = {row.name: row.status for row in report.rows if row.kind != "label"}
    windows = {feature.name for feature in features_of(BEHAVIOR_SERVICE) if feature.view == BEHAVIOR.name}
    assert {name for name, status in judged.items() if status == "insufficient data"} == {*windows, "score"}
    assert {status for name, status in judged.items() if name not in {*windows, "score"}} == {"stable"}
    # What is measured on labels is of dates up to which events are known.
    assert report.performance.status == "stable"
    # Judged all the same, the empty windows are a giant drift.
    monkeypatch.setattr(watching, "UNCOVERED_MAX", timedelta(days=60))
    drifted = run_monitor(copied, late + timedelta(hours=1)).drifted
    assert {"usage_data_mb_7d", "usage_data_mb_30d", "score"} <= set(drifted)


@pytest.mark.parametrize(
    ("drift", "among"),
    [
        ("price_rise", {"monthly_charges_usd", "price_change_usd_90d", "days_since_price_change"}),
        ("unit_change", {"usage_data_mb_7d", "usage_data_mb_30d", "usage_data_mb_90d", "usage_trend"}),
        ("fibre_outage", {"tickets_30d", "resolution_hours_90d", "usage_trend", "tickets_90d"}),
    ],
)
def test_what_happens_is_named_in_its_first_month(quiet, tmp_path, drift, among):
    report = watched(quiet, tmp_path, drift)
    assert report.drift
    assert set(report.drifted) & among


def test_a_campaign_that_no_column_shows_is_seen_in_the_labels_alone(quiet, tmp_path):
    report = watched(quiet, tmp_path, "competitor_campaign", MONTHS)
    assert "calibration" in report.drifted
    assert report.performance.gap > 0.02
