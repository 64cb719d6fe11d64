"""A base like a carrier's, of which 1.5 % leave in a month: gate, training, promotion, drift, decisions, reasons."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date, timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest

from bentos.base_rate import entropy
from bentos.batch.score_base import score_base
from bentos.bundle import Bundle
from bentos.decisions.economics import load_economics, profit_threshold
from bentos.decisions.reason_codes import load_reason_codes as load_reasons
from bentos.rollout.rollout import promote
from configs.settings import Settings, load_settings
from feature_repo.contract import BEHAVIOR_SERVICE, CUSTOMER, OBSERVED_AT
from feature_repo.raw.simulator.manifest import World, available_at
from feature_repo.raw.simulator.simulate import simulate
from feature_repo.stores.registration import apply
from flows.demo.replay_world import ReplayedWorld, replay_world, true_hazard
from flows.steps.build_features import build_activity, build_features
from flows.steps.ingest_snapshot import ingest_snapshot
from flows.steps.monitor import run_monitor
from flows.steps.train import fit_and_save_challenger
from monitoring.quality_report import GateFailedError
from tests.support.promotion_models import failed
from tests.support.world_manifest import write_world_json
from training.data.labels import load_labels
from training.data.training_set import TrainingSet, load_training_set
from training.metrics.scores import roc_auc
from training.model.fit import FittedChallenger
from training.promotion import Evidence, Verdict, decide

CUSTOMERS, MONTHS, CHURN, DRIFT = 6000, 6, 0.015, 6
START = date(2025, 1, 31)


@dataclass(frozen=True)
class Lived:
    settings: Settings
    world: World
    replay: ReplayedWorld


@dataclass(frozen=True)
class Model:
    rows: TrainingSet
    fitted: FittedChallenger
    bundle: Bundle

    def verdict(self, settings, odds=1.0):
        """The verdict on the held-out rows while nothing serves, each score's odds multiplied by ``odds``."""
        held_out = self.rows.keys.iloc[self.fitted.test]
        score = self.bundle.score(self.rows.features.iloc[self.fitted.test])
        evidence = Evidence(
            customers=held_out[CUSTOMER].to_numpy(),
            churned=self.rows.churned.to_numpy(dtype=bool)[self.fitted.test],
            challenger=odds * score / (1 + (odds - 1) * score),
            champion=None,
            challenger_threshold=self.bundle.manifest.threshold,
            explained_share=1.0,
            latency_p50_ms=1.0,
            bundle_bytes=300_000,
        )
        verdict: Verdict = decide(evidence, load_economics(), settings.promotion, settings.rollout, seed=7)
        return verdict


def lived(folder, drift="none", months=MONTHS):
    world = simulate(folder / "world", CUSTOMERS, months, 11, START, drift, DRIFT, jsonl=False, monthly_churn=CHURN)
    settings = load_settings(home=folder / "home")
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"trials": 1})})
    done = replay_world(settings, world)
    build_activity(settings)
    build_features(settings)
    apply(settings)
    return Lived(settings, world, done)


def fitted(base, month):
    """A model of what was known when the extract of ``month`` (1 is the first) had come."""
    labels = load_labels(base.settings.home, base.settings.data)
    known = labels[labels[OBSERVED_AT] < available_at(base.world.snapshots[month - 1])]
    rows = load_training_set(base.settings, known, BEHAVIOR_SERVICE)
    return Model(rows, *fit_and_save_challenger(base.settings, rows, available_at(base.world.snapshots[month - 1])))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return lived(tmp_path_factory.mktemp("low"))


@pytest.fixture(scope="module")
def model(base):
    made = fitted(base, MONTHS - 1)
    promote(
        base.settings.home,
        made.bundle.digest,
        who="tests",
        why="a champion",
        now=available_at(base.world.snapshots[-2]),
    )
    return made


def test_the_gate_accepts_every_month_and_no_constant_or_inverted_labels(base):
    rates = [landing.manifest.churn_rate for landing in base.replay.landings]
    assert all(0.008 < rate < 0.025 for rate in rates)
    assert [landing.finding for landing in base.replay.landings] == [None] * MONTHS
    extract = base.world.extract(base.world.snapshots[-1]).read_text(encoding="utf-8")
    spoilt = {
        "constant": extract.replace(",Yes\n", ",No\n"),
        "inverted": extract.replace(",Yes\n", ",?\n").replace(",No\n", ",Yes\n").replace(",?\n", ",No\n"),
    }
    for name, text in spoilt.items():
        path = base.settings.home.parent / f"{name}.csv"
        path.write_text(text, encoding="utf-8")
        write_world_json(path)
        day = base.world.snapshots[-1] + timedelta(days=30)
        with pytest.raises(GateFailedError) as refused:
            ingest_snapshot(base.settings, path, day, ingested_at=available_at(day))
        assert "churn_rate" in refused.value.message


def test_a_model_of_such_a_base_is_near_the_truth_and_may_serve(base, model):
    churned = model.rows.churned.to_numpy(dtype=bool)[model.fitted.test]
    hazard = true_hazard(base.world, model.rows.keys.iloc[model.fitted.test]).to_numpy()
    assert 0.008 < churned.mean() < 0.025
    oracle, found = roc_auc(churned, hazard), model.fitted.metrics
    # The oracle's own ROC-AUC has a standard error of 0.02 on so few churners; both see the same ones.
    assert found.roc_auc - 0.5 > 0.9 * (oracle - 0.5)
    assert found.log_loss < entropy(float(churned.mean()))
    assert model.verdict(base.settings).promote, model.verdict(base.settings).why


def test_scores_that_are_twice_too_high_may_not_serve(base, model):
    assert "calibration" in failed(model.verdict(base.settings, odds=2.0))


def test_a_quiet_month_raises_no_alarm(base, model):
    report = run_monitor(base.settings, available_at(base.world.snapshots[-1]) + timedelta(hours=1))
    assert report.drifted == []
    assert report.performance.status == "stable"


@pytest.mark.full
def test_a_campaign_that_doubles_the_risk_is_seen_in_the_labels(base, model, tmp_path):
    """Half of the base leaves twice as often: the rate moves by less than 0.015."""
    other = lived(tmp_path, "competitor_campaign", MONTHS + 1)
    for kept in ("bundles", "heldout", "ledger"):
        shutil.copytree(base.settings.home / kept, other.settings.home / kept)
    report = run_monitor(other.settings, available_at(other.world.snapshots[-1]) + timedelta(hours=1))
    assert "calibration" in report.drifted
    assert 0.003 < report.performance.gap < 0.02


def test_few_are_contacted_each_pays_and_each_has_reasons(base, model):
    run = score_base(base.settings, available_at(base.world.snapshots[-1]) + timedelta(hours=1))
    scores = pq.read_table(base.settings.home / run.path / "parts").to_pandas()
    contacted = scores[scores["label"] == "churn"]
    assert scores["probability"].mean() == pytest.approx(CHURN, abs=0.006)
    assert 0 < len(contacted) < 0.1 * len(scores)
    assert (contacted["probability"] >= profit_threshold(load_economics())).all()
    assert (contacted["expected_profit_usd"] > 0).all()
    assert (scores.loc[scores["label"] != "churn", "expected_profit_usd"] <= 0).all()
    assert run.unexplained == 0
    assert contacted["reasons"].map(len).min() > 0
    known = set(load_reasons(BEHAVIOR_SERVICE).codes)
    assert {code for reasons in contacted["reasons"] for code in reasons} <= known
    truth = pd.read_parquet(base.world.truth(base.world.snapshots[-1])).set_index(CUSTOMER)["hazard"]
    assert truth[contacted[CUSTOMER]].mean() > 5 * truth.mean()
