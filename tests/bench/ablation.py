"""What each part of the model is worth: `uv run poe bench-model CSV`.

Repeated 5-fold cross-validation with the default parameters (no tuning), identical rows together, every variant on
the same folds. Prints the mean over the repeats of ROC-AUC, PR-AUC and Brier, each variant's as it comes; a variant
that fails is a row that says so, the model itself failing is an error at the end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from bentos.bundle.design_matrix import Design
from feature_repo.contract import CORE_SERVICE, features_of
from feature_repo.raw.snapshots.telco_csv import normalise, read_raw
from feature_repo.stores.casting import to_dataframe
from feature_repo.transforms import derive
from tests.bench.record import Record, options, report
from training.data.split import folds
from training.metrics.scores import brier, pr_auc, roc_auc
from training.model.estimator import (
    ITERATIONS,
    BlendedChurnClassifier,
    DesignMatrix,
    HyperParameters,
    baseline_pipeline,
)
from training.model.feature_columns import LINEAR_TERMS

REPEATS = 3
FOLDS = 5
Scorer = Callable[[pd.DataFrame, np.ndarray, pd.DataFrame], np.ndarray]


def blend(**changes: float) -> Scorer:
    """Score with the model itself, some parameters changed."""

    def score(train, churned, valid):
        return BlendedChurnClassifier(HyperParameters(**changes)).fit(train, churned).predict_proba(valid)[:, 1]

    return score


def linear(design: Design, *, pairs: bool = False, regularisation: float = 0.3) -> Scorer:
    """Score with a logistic regression on a design, with all pairwise products where ``pairs``."""

    def score(train, churned, valid):
        steps = [("design", DesignMatrix(design)), ("scale", StandardScaler())]
        if pairs:
            steps.append(("pairs", PolynomialFeatures(interaction_only=True, include_bias=False)))
        steps.append(("regression", LogisticRegression(C=regularisation, max_iter=ITERATIONS)))
        return Pipeline(steps).fit(train, churned).predict_proba(valid)[:, 1]

    return score


def isotonic(train, churned, valid):
    """Score with the model, calibrated by isotonic regression on out-of-fold scores of the training rows."""
    inner = np.empty(len(train))
    for rows, rest in folds(train.reset_index(drop=True), churned, FOLDS, 0):
        inner[rest] = blend()(train.iloc[rows], churned[rows], train.iloc[rest])
    fitted = IsotonicRegression(out_of_bounds="clip", y_min=1e-3, y_max=1 - 1e-3).fit(inner, churned)
    return fitted.predict(blend()(train, churned, valid))


def estimator(model: Callable[[], BaseEstimator]) -> Scorer:
    """Score with any scikit-learn classifier."""

    def score(train, churned, valid):
        return model().fit(train, churned).predict_proba(valid)[:, 1]

    return score


SIMPLE = tuple(column for column in LINEAR_TERMS if len(column.factors) == 1)
STRAIGHT = tuple(column for column in SIMPLE if column.factors[0].op in {"equals", "number"})
MODEL = "the model (trees 0.2)"
VARIANTS: dict[str, Scorer] = {
    MODEL: blend(),
    "linear part alone": blend(tree_weight=0.0),
    "trees alone": blend(tree_weight=1.0),
    "linear part without products": linear(SIMPLE),
    "linear part without products and hinges": linear(STRAIGHT),
    "all pairs of plain columns, strong ridge": linear(STRAIGHT, pairs=True, regularisation=0.001),
    "the model, isotonic calibration": isotonic,
    "baseline logistic regression": estimator(baseline_pipeline),
}


def section(csv: Path, record: Record) -> list[str]:
    """Return the table for a Telco CSV."""
    snapshot = normalise(read_raw(csv, file_size_max_mb=1024, cell_length_max_chars=10_000))
    columns = {name: snapshot[name].tolist() for name in snapshot.columns}
    features = to_dataframe(features_of(CORE_SERVICE), {**columns, **derive(columns)})
    churned = snapshot["churned"].to_numpy(dtype=bool)
    lines = [f"{csv.name}: {REPEATS} x {FOLDS}-fold cross-validation, default parameters.", ""]
    lines += ["| variant | ROC-AUC | PR-AUC | Brier |", "|---|---|---|---|"]
    for name, scorer in VARIANTS.items():
        found = record.attempt(name, "cross-validation", validated, scorer, features, churned, ours=name == MODEL)
        lines.append(f"| {name} | {' | '.join(f'{each:.4f}' for each in found or ()) or '**failed** | |'} |")
    return [*lines, ""]


def validated(scorer: Scorer, features: pd.DataFrame, churned: np.ndarray) -> list[float]:
    """Return the means of ROC-AUC, PR-AUC and Brier over the repeats."""
    figures = []
    for repeat in range(REPEATS):
        score = np.empty(len(churned))
        for train, valid in folds(features, churned, FOLDS, repeat):
            score[valid] = scorer(features.iloc[train], churned[train], features.iloc[valid])
        figures.append([roc_auc(churned, score), pr_auc(churned, score), brier(churned, score)])
    return np.mean(figures, axis=0).tolist()


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    options(parser)
    given = parser.parse_args()
    sys.exit(report("bench-model", given, lambda record: section(given.csv, record)))


if __name__ == "__main__":
    main()
