"""Repeated nested cross-validation of the model and of the baseline on the same folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.bundle.design import Floats
from configs.settings import TrainingSettings
from training.economics import Economics
from training.metrics import Metrics, measure
from training.pipeline import ChurnBlend, Params, baseline_pipeline
from training.search import search
from training.split import folds


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold scores, (repeats, n) float64, and the figures of each repeat; same folds for both models.

    ``chosen`` holds the parameters that tuning chose inside each outer training fold, repeat by repeat.
    """

    score: Floats
    baseline_score: Floats
    metrics: tuple[Metrics, ...]
    baseline_metrics: tuple[Metrics, ...]
    chosen: tuple[Params, ...]
    contributions: Floats
    """Of the first repeat, (n, f) on the margin, one column a feature, out of fold as the scores are."""

    @property
    def ahead(self) -> int:
        """Repeats in which the model's ROC-AUC is above the baseline's."""
        pairs = zip(self.metrics, self.baseline_metrics, strict=True)
        return sum(ours.roc_auc > theirs.roc_auc for ours, theirs in pairs)


def cross_validate(
    features: pd.DataFrame,
    churned: NDArray[np.bool_],
    settings: TrainingSettings,
    economics: Economics,
    *,
    repeats: int,
    progress: Callable[[int], object] = lambda _fold: None,
) -> CrossValidation:
    """Score every row by models that never saw it, nor any row equal to it, ``repeats`` times.

    Inside each outer training fold the parameters are tuned anew (nested): the outer rows play no part in any
    choice. ``progress`` is called with the number of finished outer folds.
    """
    score, baseline = np.empty((repeats, len(churned))), np.empty((repeats, len(churned)))
    contributions = np.empty(features.shape)
    chosen = []
    for repeat in range(repeats):
        seed = settings.seed + repeat
        for position, (train, valid) in enumerate(folds(features, churned, settings.folds, seed)):
            inner = settings.model_copy(update={"seed": seed})
            params = search(features.iloc[train], churned[train], inner).params
            model = ChurnBlend(params, seed).fit(features.iloc[train], churned[train])
            score[repeat, valid] = model.predict_proba(features.iloc[valid])[:, 1]
            if repeat == 0:
                contributions[valid] = model.contributions(features.iloc[valid], tuple(features.columns))
            plain = baseline_pipeline().fit(features.iloc[train], churned[train])
            baseline[repeat, valid] = plain.predict_proba(features.iloc[valid])[:, 1]
            chosen.append(params)
            progress(repeat * settings.folds + position + 1)
    return CrossValidation(
        score,
        baseline,
        tuple(measure(churned, row, economics) for row in score),
        tuple(measure(churned, row, economics) for row in baseline),
        tuple(chosen),
        contributions,
    )
