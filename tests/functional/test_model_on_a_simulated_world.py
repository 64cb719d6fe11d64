"""A simulated world lived through month by month: what the whole platform learns from it, against the truth."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bentos.decisions.economics import load_economics
from bentos.rollout.rollout import promote
from configs.settings import Settings, load_settings
from feature_repo.contract import BEHAVIOR_SERVICE, CORE_SERVICE, CUSTOMER, LABEL, OBSERVED_AT, SERVICES_OF, SOURCE
from feature_repo.files.parquet_tables import append_table
from feature_repo.raw.events.deliveries import deliveries
from feature_repo.raw.simulator.manifest import World, available_at
from feature_repo.raw.simulator.simulate import simulate
from feature_repo.raw.snapshots.publication import published_snapshots, read_snapshot
from feature_repo.raw.snapshots.timing import feature_rows
from feature_repo.stores.materialize import materialize
from feature_repo.stores.registration import apply
from flows.demo.replay_world import ReplayedWorld, replay_world, true_hazard
from flows.steps.build_features import build_activity, build_features
from flows.steps.check_parity import ParityBrokenError, check_parity, report
from flows.steps.compare import gather_evidence, serving
from flows.steps.train import feature_service, fit_and_save_challenger
from training.data.labels import load_labels
from training.data.training_set import TrainingSet, load_training_set
from training.metrics.scores import roc_auc
from training.model.estimator import BlendedChurnClassifier, HyperParameters
from training.promotion import decide
from training.registry import RegisteredChallenger

CUSTOMERS, MONTHS, SCORED = 3000, 9, 4
EXCESS_SHARE_MIN = 0.97


@dataclass(frozen=True)
class Lived:
    settings: Settings
    world: World
    replay: ReplayedWorld
    rows: TrainingSet


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world = simulate(folder / "world", CUSTOMERS, MONTHS, 11, date(2025, 1, 31), jsonl=False)
    settings = load_settings(home=folder / "home")
    done = replay_world(settings, world)
    build_activity(settings)
    build_features(settings)
    apply(settings)
    labels = load_labels(settings.home, settings.data)
    return Lived(settings, world, done, load_training_set(settings, labels, feature_service(settings)))


def forward(rows, columns):
    """Scores of the newest SCORED dates, each by a model of the dates before."""
    churned, dates = rows.churned.to_numpy(dtype=bool), rows.keys[OBSERVED_AT]
    score = np.full(len(rows), np.nan)
    for newest in sorted(dates.unique())[-SCORED:]:
        past, now = (dates < newest).to_numpy(), (dates == newest).to_numpy()
        model = BlendedChurnClassifier(HyperParameters(), 7).fit(rows.features.loc[past, list(columns)], churned[past])
        score[now] = model.predict_proba(rows.features.loc[now, list(columns)])[:, 1]
    return score


def test_the_model_reaches_the_oracle_but_for_three_percent_and_behaviours_help(lived):
    """Simulated figures: how much of the reachable ROC-AUC above chance is reached on months that came later."""
    rows = lived.rows
    assert rows.service == BEHAVIOR_SERVICE
    hazard = true_hazard(lived.world, rows.keys).to_numpy()
    core, behaviour = forward(rows, SERVICES_OF[CORE_SERVICE]), forward(rows, SERVICES_OF[BEHAVIOR_SERVICE])
    scored = ~np.isnan(behaviour) & np.isfinite(hazard)
    churned = rows.churned.to_numpy(dtype=bool)[scored]
    oracle_excess, core_excess, excess = (roc_auc(churned, score[scored]) - 0.5 for score in (hazard, core, behaviour))
    assert scored.sum() > SCORED * CUSTOMERS / 2
    assert excess >= EXCESS_SHARE_MIN * oracle_excess
    assert excess > core_excess + 0.015
    assert excess < oracle_excess + 0.01, "better than the truth is a leak"


def test_every_label_of_a_lived_month_is_the_truth_of_the_world(lived):
    keys = lived.rows.keys
    truth = pd.concat([pd.read_parquet(lived.world.truth(each)) for each in lived.world.observation_dates])
    joined = keys.merge(truth, on=[CUSTOMER, OBSERVED_AT], suffixes=("", "_true"))
    # The bootstrap also labels those who joined and left within its window: nobody observed them.
    observed = keys[OBSERVED_AT] > pd.Timestamp(available_at(lived.world.observation_dates[0]))
    assert len(joined[joined[OBSERVED_AT].isin(keys.loc[observed, OBSERVED_AT].unique())]) == observed.sum()
    assert (joined["churned_true"].astype(bool) == joined[LABEL]).all()


def test_nothing_is_lost_on_the_way(lived):
    events = sum(pq.read_metadata(lived.world.events(day)).num_rows for day in lived.world.observation_dates)
    waiting = deliveries(lived.settings.home)[-1].waiting
    assert sum(each.admitted for each in deliveries(lived.settings.home)) + waiting == events
    assert lived.replay.deliveries == MONTHS + 1
    assert lived.replay.corrections == len(lived.world.corrections) > 0
    assert [m.version for m in published_snapshots(lived.settings.home)] == [
        2 if any(c.corrects == day for c in lived.world.corrections) else 1 for day in lived.world.snapshots
    ]


def test_living_it_again_changes_nothing(lived):
    home = lived.settings.home
    before = {path: path.read_bytes() for path in (home / "offline").rglob("*.parquet")}
    replay_world(lived.settings, lived.world)
    build_activity(lived.settings)
    build_features(lived.settings)
    assert {path: path.read_bytes() for path in (home / "offline").rglob("*.parquet")} == before


def test_online_equals_offline_for_everybody_and_a_changed_value_is_found_and_named(lived):
    now = available_at(lived.world.snapshots[-1]) + timedelta(hours=1)
    materialize(lived.settings, now)
    lines = report(lived.settings, check_parity(lived.settings, now))
    assert [line.split(":")[0] for line in lines] == [CORE_SERVICE, BEHAVIOR_SERVICE]
    assert all("0 differ online" in line for line in lines)
    database = lived.settings.home / "feast" / "online.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        table = "churn_customer_contract"
        changed = f"UPDATE {table} SET value = (SELECT value FROM {table} WHERE feature_name = 'tenure_months' LIMIT 1)"  # noqa: S608
        count = connection.execute(f"{changed} WHERE feature_name = 'tenure_months'").rowcount
    assert count > CUSTOMERS / 2
    with pytest.raises(ParityBrokenError) as broken:
        report(lived.settings, check_parity(lived.settings, now, customers_max=300))
    assert "tenure_months (" in broken.value.message
    assert re.search(r"For example c_[0-9a-f]{16}", broken.value.message)
    assert "churn materialize" in broken.value.hint
    materialize(lived.settings, now)
    assert report(lived.settings, check_parity(lived.settings, now))


def test_a_value_that_is_late_online_is_told(lived):
    """What is known offline and not materialised yet differs, and the hint says what to do."""
    later = available_at(lived.world.snapshots[-1]) + timedelta(days=31)
    row = (
        read_snapshot(lived.settings.home, published_snapshots(lived.settings.home)[-1])
        .head(1)
        .assign(tenure_months=71)
    )
    known = later - timedelta(days=1)
    append_table(lived.settings.home, SOURCE, "9999-late", feature_rows(row, known, known))
    with pytest.raises(ParityBrokenError, match=r"tenure_months \(1\)"):
        report(lived.settings, check_parity(lived.settings, later))
    materialize(lived.settings, later)
    assert report(lived.settings, check_parity(lived.settings, later))


def test_a_champion_that_reads_more_is_compared_and_never_passed_by(lived):
    """A challenger of the core alone is held against the behavioural champion, not against the floors alone."""
    plan = lived.settings.training.model_copy(update={"trials": 1})
    settings = lived.settings.model_copy(update={"training": plan})
    now = available_at(lived.world.snapshots[-1])
    _, bundle = fit_and_save_challenger(settings, lived.rows, now)
    promote(settings.home, bundle.digest, who="tests", why="it reads more", now=now)
    core = load_training_set(settings, load_labels(settings.home, settings.data), CORE_SERVICE)
    fitted, weaker = fit_and_save_challenger(settings, core, now)
    trained = RegisteredChallenger("", weaker.digest, weaker.manifest.model_version, "1", "none", seen_rows=0)
    evidence = gather_evidence(settings, trained, serving(settings.home), None)
    assert len(evidence.churned) == fitted.metrics.rows
    verdict = decide(evidence, load_economics(), settings.promotion, settings.rollout, seed=7)
    assert verdict.figures["challenger_log_loss"] == pytest.approx(fitted.metrics.log_loss)
    assert verdict.figures["champion_log_loss"] < fitted.metrics.log_loss
    assert not verdict.promote
