"""Repeated nested cross-validation of the model and of the baseline on the same folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bentos.bundle.design_matrix import Floats
from bentos.decisions.economics import Economics
from configs.settings import TrainingSettings
from training.data.split import Rows, folds
from training.metrics.scores import Metrics, measure_metrics
from training.model.estimator import BlendedChurnClassifier, HyperParameters, baseline_pipeline
from training.model.feature_columns import service_of
from training.model.tuning import tune


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold scores, (repeats, scored rows) float64, and figures per repeat, on the same folds.

    ``chosen`` holds the parameters tuned inside each outer training fold, repeat by repeat.
    """

    scored: Rows
    """Positions, ascending, of the scored rows: all of one date; of several, those of the newest."""
    score: Floats
    baseline_score: Floats
    metrics: tuple[Metrics, ...]
    baseline_metrics: tuple[Metrics, ...]
    chosen: tuple[HyperParameters, ...]
    contributions: Floats
    """Out-of-fold margin contributions, first repeat, (scored rows, f), one column per feature."""

    @property
    def ahead(self) -> int:
        """Number of repeats in which the model's ROC-AUC is above the baseline's."""
        pairs = zip(self.metrics, self.baseline_metrics, strict=True)
        return sum(ours.roc_auc > theirs.roc_auc for ours, theirs in pairs)


# As in fit: one thread of OpenBLAS is faster than several here.
@threadpool_limits.wrap(limits=1, user_api="blas")
def cross_validate(
    features: pd.DataFrame,
    churned: NDArray[np.bool_],
    settings: TrainingSettings,
    economics: Economics,
    *,
    observed_at: pd.Series | None = None,
    repeats: int,
    progress: Callable[[int], object] = lambda _fold: None,
) -> CrossValidation:
    """Score rows, ``repeats`` times, by models fitted on neither those rows nor rows equal to them.

    Parameters are tuned again inside each outer training fold (nested): the outer rows have no influence on any
    choice. ``progress`` is called with the number of finished outer folds.

    With several observation dates (``observed_at``, (n,) instants) each of the newest dates, ``settings.folds`` at
    most, is scored by a model fitted on the dates before it; the oldest dates have no score. Such folds are the same in
    every repeat: repeats then differ by the seed of the learner alone (rows and columns that each tree draws), and
    their spread does not measure the variation over other data. With one date the folds are drawn again per repeat, and
    every row is scored.
    """
    score, baseline = np.full((2, repeats, len(churned)), np.nan)
    contributions = np.empty(features.shape)
    chosen = []
    for repeat in range(repeats):
        seed = settings.seed + repeat
        inner = settings.model_copy(update={"seed": seed})
        for train, valid in folds(features, churned, settings.folds, seed, observed_at):
            past = None if observed_at is None else observed_at.iloc[train]
            params = tune(features.iloc[train], churned[train], inner, observed_at=past).params
            model = BlendedChurnClassifier(params, seed).fit(features.iloc[train], churned[train])
            score[repeat, valid] = model.predict_proba(features.iloc[valid])[:, 1]
            if repeat == 0:
                contributions[valid] = model.contributions(features.iloc[valid], tuple(features.columns))
            plain = baseline_pipeline(service_of(features.columns)).fit(features.iloc[train], churned[train])
            baseline[repeat, valid] = plain.predict_proba(features.iloc[valid])[:, 1]
            chosen.append(params)
            progress(len(chosen))
    scored = np.flatnonzero(~np.isnan(score[0]))
    return CrossValidation(
        scored,
        score[:, scored],
        baseline[:, scored],
        tuple(measure_metrics(churned[scored], row, economics) for row in score[:, scored]),
        tuple(measure_metrics(churned[scored], row, economics) for row in baseline[:, scored]),
        tuple(chosen),
        contributions[scored],
    )
