"""Model fitting: from a training set to an unsaved bundle and its metrics on held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bentos.bundle import Bundle, Manifest
from bentos.decisions.economics import Economics, profit_threshold
from configs.settings import CONFIG_DIR, TrainingSettings
from feature_repo.contract import OBSERVED_AT, SERVICES_OF
from feature_repo.definition_hash import feature_hashes
from training.data.split import Rows, folds, moments, split_holdout
from training.data.training_set import TrainingSet
from training.metrics.scores import Metrics, measure_metrics
from training.model.calibration import fit_calibration
from training.model.estimator import BlendedChurnClassifier, HyperParameters, baseline_pipeline
from training.model.tuning import Tuning, tune

REASON_CODES_FILE = CONFIG_DIR / "reason_codes.toml"


@dataclass(frozen=True)
class Provenance:
    """Origin of a model: snapshot ids (date and version), their time, git commit, and when it was made."""

    snapshots: tuple[str, ...]
    time: Literal["declared", "observed"]
    git_commit: str
    created_at: datetime


@dataclass(frozen=True)
class FittedChallenger:
    """A bundle (not saved yet) and its metrics on the held-out rows ``test`` of its training set."""

    bundle: Bundle
    model: BlendedChurnClassifier
    tuning: Tuning
    train: Rows
    test: Rows
    metrics: Metrics
    baseline: Metrics
    baseline_score: NDArray[np.float64]
    """(n,) the baseline's scores of the held-out rows ``test``."""


# Idle OpenBLAS threads spin: on matrices of this size a single thread is several times faster.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_challenger(
    training_set: TrainingSet,
    settings: TrainingSettings,
    economics: Economics,
    provenance: Provenance,
    *,
    journal: Path | None = None,
) -> FittedChallenger:
    """Hold out rows, tune and fit on the rest, calibrate if it helps, and evaluate on the held-out rows.

    With several observation dates every step is temporal: the newest date is held out; tuning validates newer dates
    with models fitted on older ones; calibration is fitted on dates validated in that way, which excludes the oldest.
    With one date all of these are stratified folds.

    The model is not refitted on the held-out rows: the next challenger is compared with it on them, and a champion that
    had been fitted on them would have an unfair advantage.

    Parameters
    ----------
    training_set
        Labelled rows of one feature service.
    settings
        Test share, folds, seed, and the limits of the search.
    economics
        Costs and revenue of a contact; they determine the threshold.
    provenance
        Origin of the model, written to the bundle's manifest.
    journal
        File of finished tuning trials; see :func:`training.model.tuning.tune`.

    Raises
    ------
    OneClassTrainingSetError
        If there are too few customers of one class.
    """
    features, churned = training_set.features, training_set.churned.to_numpy(dtype=bool)
    train, test = split_holdout(training_set, settings.test_share, settings.seed)
    observed_at = training_set.keys[OBSERVED_AT].iloc[train]
    tuning = tune(features.iloc[train], churned[train], settings, observed_at=observed_at, journal=journal)
    model = BlendedChurnClassifier(tuning.params, settings.seed).fit(features.iloc[train], churned[train])
    platt = _calibration(features.iloc[train], churned[train], observed_at, tuning.params, settings)
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
            calibration=platt,
            metrics={},
            time=provenance.time,
            snapshots=provenance.snapshots,
            git_commit=provenance.git_commit,
            created_at=provenance.created_at.isoformat(),
            files={},
            feature_hashes=feature_hashes(training_set.service),
        ),
        linear,
        trees,
        codes,
    )
    metrics = measure_metrics(churned[test], unmeasured.score(features.iloc[test]), economics)
    plain = baseline_pipeline(training_set.service).fit(features.iloc[train], churned[train])
    baseline_score = np.asarray(plain.predict_proba(features.iloc[test])[:, 1], dtype=np.float64)
    baseline = measure_metrics(churned[test], baseline_score, economics)
    bundle = unmeasured.with_metrics(metrics.as_dict())
    return FittedChallenger(bundle, model, tuning, train, test, metrics, baseline, baseline_score)


def _calibration(
    features: pd.DataFrame,
    churned: NDArray[np.bool_],
    observed_at: pd.Series,
    params: HyperParameters,
    settings: TrainingSettings,
) -> tuple[float, float]:
    """Return the calibration fitted on margins of models that saw neither these rows nor newer ones."""
    margin = np.full(len(churned), np.nan)
    for rows, valid in folds(features, churned, settings.folds, settings.seed, observed_at):
        model = BlendedChurnClassifier(params, settings.seed).fit(features.iloc[rows], churned[rows])
        margin[valid] = model.decision_function(features.iloc[valid])
    scored = ~np.isnan(margin)
    forward = None if scored.all() else moments(features, observed_at)[scored]
    return fit_calibration(margin[scored], churned[scored], settings.seed, forward)
