"""The real file, taken the whole way once: published, registered, joined, trained, promoted, materialised."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
import pytest

from configs.settings import Settings, load_settings
from feature_repo.raw.publication import published, read_snapshot
from feature_repo.stores.materialising import materialize
from feature_repo.stores.registration import apply
from flows.build_features import build_features
from flows.land import ingest
from flows.train import Challenger, train, training_set
from training.dataset import TrainingSet
from training.promotion import Verdict


@dataclass(frozen=True)
class Telco:
    settings: Settings
    now: datetime
    snapshot: pd.DataFrame
    training_set: TrainingSet
    challenger: Challenger
    verdict: Verdict


@pytest.fixture(scope="session")
def telco(tmp_path_factory, telco_csv):
    settings = load_settings(home=tmp_path_factory.mktemp("telco-home"))
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"trials": 5})})
    now = datetime.now(UTC)
    ingest(settings, telco_csv, now.date(), ingested_at=now)
    build_features(settings)
    apply(settings)
    challenger, verdict = train(settings, now)
    materialize(settings, now)
    snapshot = read_snapshot(settings.home, published(settings.home)[0])
    return Telco(settings, now, snapshot, training_set(settings), challenger, verdict)
