"""The real file, taken the whole way once: published, registered, joined, trained, promoted, materialised."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
import pytest

from configs.settings import Settings, load_settings
from feature_repo.raw.snapshots.publication import published_snapshots, read_snapshot
from feature_repo.stores.materialize import materialize
from feature_repo.stores.registration import apply
from flows.steps.build_features import build_features
from flows.steps.ingest_snapshot import ingest_snapshot
from flows.steps.promote import compare_and_promote
from flows.steps.train import (
    TrainedChallenger,
    current_fingerprint,
    fit_and_save_challenger,
    register_challenger,
    registered_challenger,
    training_set,
)
from training.data.training_set import TrainingSet
from training.promotion import Verdict


@dataclass(frozen=True)
class Telco:
    settings: Settings
    now: datetime
    snapshot: pd.DataFrame
    training_set: TrainingSet
    challenger: TrainedChallenger
    verdict: Verdict


@pytest.fixture(scope="session")
def telco(tmp_path_factory, telco_csv):
    settings = load_settings(home=tmp_path_factory.mktemp("telco-home"))
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"trials": 5})})
    now = datetime.now(UTC)
    ingest_snapshot(settings, telco_csv, now.date(), ingested_at=now)
    build_features(settings)
    apply(settings)
    rows = training_set(settings)
    fitted, bundle = fit_and_save_challenger(settings, rows, now)
    challenger = register_challenger(settings, fitted, bundle, rows, current_fingerprint(settings))
    done = compare_and_promote(settings, registered_challenger(settings), who="tests", why="the first", now=now)
    assert done.compared is not None
    materialize(settings, now)
    snapshot = read_snapshot(settings.home, published_snapshots(settings.home)[0])
    return Telco(settings, now, snapshot, rows, challenger, done.compared.verdict)
