"""From a training set to a bundle with the figures of rows it never saw."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from bentos.bundle import Bundle, Manifest
from bentos.bundle.design import Floats
from configs.settings import CONFIG_DIR, TrainingSettings
from feature_repo.contract import SERVICES_OF
from training.calibrate import calibration
from training.dataset import TrainingSet
from training.economics import Economics, profit_threshold
from training.metrics import Metrics, measure
from training.pipeline import ChurnBlend, Params, baseline_pipeline
from training.search import Tuning, search
from training.split import Rows, folds, holdout

REASON_CODES_FILE = CONFIG_DIR / "reason_codes.toml"


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from: snapshot ids (date and version), their time, git commit, and when it was made."""

    snapshots: tuple[str, ...]
    time: Literal["declared", "observed"]
    git_commit: str
    created_at: datetime


@dataclass(frozen=True)
class Fitted:
    """A bundle (not saved yet) and how it did on the held-out rows ``test`` of its training set."""

    bundle: Bundle
    model: ChurnBlend
    tuning: Tuning
    train: Rows
    test: Rows
    metrics: Metrics
    baseline: Metrics


def fit(
    training_set: TrainingSet,
    settings: TrainingSettings,
    economics: Economics,
    provenance: Provenance,
    *,
    journal: Path | None = None,
) -> Fitted:
    """Hold rows out, tune and fit on the rest, calibrate if it helps, and measure on the held-out rows.

    The held-out rows are not learnt from afterwards either: the next challenger is compared with this model on
    them, and a champion that had seen them would win by memory.

    Raises
    ------
    OneClassTrainingSetError
        If there are too few customers that left, or that stayed.
    """
    features, churned = training_set.features, training_set.churned.to_numpy(dtype=bool)
    train, test = holdout(training_set, settings.test_share, settings.seed)
    tuning = search(features.iloc[train], churned[train], settings, journal=journal)
    model = ChurnBlend(tuning.params, settings.seed).fit(features.iloc[train], churned[train])
    margin = _out_of_fold(training_set, train, tuning.params, settings)
    linear, trees = model.parts()
    codes = REASON_CODES_FILE.read_text(encoding="utf-8")
    unmeasured = Bundle(
        Manifest(
            model_version=provenance.created_at.strftime("%Y%m%dT%H%M%S"),
            service=training_set.service,
            contract_hash=training_set.contract_hash,
            features=SERVICES_OF[training_set.service],
            threshold=profit_threshold(economics),
            threshold_policy="expected profit of contacting is above 0 (configs/economics.toml)",
            tree_weight=tuning.params.tree_weight,
            calibration=calibration(margin, churned[train], settings.seed),
            metrics={},
            time=provenance.time,
            snapshots=provenance.snapshots,
            git_commit=provenance.git_commit,
            created_at=provenance.created_at.isoformat(),
            files={},
        ),
        linear,
        trees,
        codes,
    )
    metrics = measure(churned[test], unmeasured.score(features.iloc[test]), economics)
    plain = baseline_pipeline().fit(features.iloc[train], churned[train])
    baseline = measure(churned[test], plain.predict_proba(features.iloc[test])[:, 1], economics)
    bundle = unmeasured.with_metrics(metrics.as_dict())
    return Fitted(bundle, model, tuning, train, test, metrics, baseline)


def _out_of_fold(training_set: TrainingSet, train: Rows, params: Params, settings: TrainingSettings) -> Floats:
    """Return the margin of each training row by a model that did not see it, (len(train),)."""
    features = training_set.features.iloc[train].reset_index(drop=True)
    churned = training_set.churned.to_numpy(dtype=bool)[train]
    margin = np.empty(len(train))
    for rows, valid in folds(features, churned, settings.folds, settings.seed):
        model = ChurnBlend(params, settings.seed).fit(features.iloc[rows], churned[rows])
        margin[valid] = model.decision_function(features.iloc[valid])
    return margin
