"""The estimator: logistic regression and boosted trees, blended on the log-odds margin.

Fitted by :mod:`training.model.fit` and :mod:`training.evaluation.cross_validation`; a bundle stores its parts as data.
See docs/decisions/0004-blended-model.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

from bentos.bundle.components import LinearComponent, TreeComponent
from bentos.bundle.design_matrix import Design, Floats, matrix
from feature_repo.contract import CORE_SERVICE, DERIVED, features_of
from training.model.feature_columns import DESIGNS, ModelDesign, service_of

ITERATIONS: Final = 2000


@dataclass(frozen=True)
class HyperParameters:
    """Hyperparameters. ``tree_weight`` is the trees' share of the margin, the rest is the linear part's."""

    regularisation: float = 0.3
    """C of the logistic regression: smaller is stronger regularisation."""
    tree_weight: float = 0.2
    max_depth: int = 3
    rounds: int = 300
    learning_rate: float = 0.03

    def as_dict(self) -> dict[str, float]:
        """Return name -> value, for logs."""
        return asdict(self)


class DesignMatrix(TransformerMixin, BaseEstimator):
    """Transformer from a feature frame to a design matrix, with the function that bundles score with.

    Parameters
    ----------
    design
        Columns of the result. The transformer is stateless: ``fit`` records the number of input columns alone.
    """

    def __init__(self, design: Design) -> None:
        self.design = design

    def fit(self, features: pd.DataFrame, churned: object = None) -> Self:  # noqa: ARG002
        """Record the number of input columns."""
        self.n_features_in_ = features.shape[1]
        return self

    def transform(self, features: pd.DataFrame) -> Floats:
        """Return (n, len(design)) float64."""
        return matrix(self.design, features)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Return the names of the design's columns."""
        return np.asarray([column.name for column in self.design], dtype=object)


def linear_pipeline(regularisation: float, designs: ModelDesign = DESIGNS[CORE_SERVICE]) -> Pipeline:
    """Return design -> standard scaler -> logistic regression (L2; class weights would spoil calibration)."""
    # Many rows, few columns: Newton's method converges, where lbfgs stops early on overlapping hinges.
    return Pipeline(
        [
            ("design", DesignMatrix(designs.linear)),
            ("scale", StandardScaler()),
            ("regression", LogisticRegression(C=regularisation, max_iter=ITERATIONS, solver="newton-cholesky")),
        ]
    )


def tree_pipeline(
    params: HyperParameters,
    seed: int,
    early_stopping_rounds: int | None = None,
    designs: ModelDesign = DESIGNS[CORE_SERVICE],
) -> Pipeline:
    """Return design -> XGBoost. With ``early_stopping_rounds`` its ``fit`` needs an ``eval_set``."""
    boosting = XGBClassifier(
        objective="binary:logistic",
        eval_metric="logloss",
        tree_method="hist",
        max_depth=params.max_depth,
        n_estimators=params.rounds,
        learning_rate=params.learning_rate,
        subsample=0.8,
        colsample_bytree=0.5,
        min_child_weight=10,
        reg_lambda=10,
        monotone_constraints=designs.monotone,
        random_state=seed,
        n_jobs=1,
        early_stopping_rounds=early_stopping_rounds,
    )
    return Pipeline([("design", DesignMatrix(designs.trees)), ("boosting", boosting)])


class BlendedChurnClassifier(ClassifierMixin, BaseEstimator):
    """Classifier: margin = (1 - tree_weight) * logistic regression + tree_weight * trees, in log-odds.

    The blend of margins, unlike one of probabilities, is additive, so that every score is explained exactly.

    Parameters
    ----------
    params
        Hyperparameters; None: the defaults of :class:`HyperParameters`.
    seed
        Random state of the trees.
    """

    def __init__(self, params: HyperParameters | None = None, seed: int = 0) -> None:
        self.params = params
        self.seed = seed

    def fit(self, features: pd.DataFrame, churned: NDArray[np.bool_]) -> Self:
        """Fit both parts on ``features`` (n, f), the features of one service, and ``churned`` (n,) bool."""
        self.designs_ = DESIGNS[service_of(features.columns)]
        self.params_ = self.params or HyperParameters()
        self.classes_ = np.array([False, True])
        self.linear_ = linear_pipeline(self.params_.regularisation, self.designs_).fit(features, churned)
        trees = tree_pipeline(self.params_, self.seed, designs=self.designs_)
        self.trees_ = trees.fit(features, np.asarray(churned, dtype=int))
        return self

    def decision_function(self, features: pd.DataFrame) -> Floats:
        """Return the log-odds margin, (n,) float64."""
        share = self.params_.tree_weight
        return np.asarray(
            (1 - share) * self.linear_.decision_function(features) + share * tree_margin(self.trees_, features),
            dtype=np.float64,
        )

    def predict_proba(self, features: pd.DataFrame) -> Floats:
        """Return (n, 2): the probabilities of staying and of churning."""
        leaving = 1 / (1 + np.exp(-self.decision_function(features)))
        return np.column_stack([1 - leaving, leaving])

    def predict(self, features: pd.DataFrame) -> NDArray[np.bool_]:
        """Return whether the probability of churning is at least 0.5, (n,) bool."""
        return np.asarray(self.decision_function(features) >= 0)

    def contributions(self, features: pd.DataFrame, names: Sequence[str]) -> Floats:
        """Return each feature's contribution to the margin, (n, len(names)) float64, as a bundle does."""
        share = self.params_.tree_weight
        linear, trees = self.parts()
        ours, theirs = (part.explain(matrix(part.design, features), names) for part in (linear, trees))
        return np.asarray((1 - share) * ours.contributions + share * theirs.contributions, dtype=np.float64)

    def parts(self) -> tuple[LinearComponent, TreeComponent]:
        """Return the fitted parts in the form that a bundle stores."""
        scaler, regression = self.linear_["scale"], self.linear_["regression"]
        linear = LinearComponent(
            self.designs_.linear,
            np.asarray(scaler.mean_, dtype=np.float64),
            np.asarray(scaler.scale_, dtype=np.float64),
            np.asarray(regression.coef_[0], dtype=np.float64),
            float(regression.intercept_[0]),
        )
        booster = self.trees_["boosting"].get_booster()
        # After early stopping the scikit-learn wrapper predicts with the best round and a plain booster with all
        # rounds: the booster is cut to exactly the rounds that were fitted.
        return linear, TreeComponent(self.designs_.trees, booster[: self.params_.rounds])


def tree_margin(trees: Pipeline, features: pd.DataFrame) -> Floats:
    """Return the log-odds margin of a fitted tree pipeline, (n,) float64."""
    return np.asarray(trees.predict(features, output_margin=True), dtype=np.float64)


def baseline_pipeline(service: str = CORE_SERVICE) -> Pipeline:
    """Return the baseline for all comparisons: one-hot and scaled numbers, logistic regression, C = 1."""
    # Derived core features are sums and categories of other columns: redundant in a linear model.
    read = [feature for feature in features_of(service) if feature.view != DERIVED.name]
    categories = [feature.name for feature in read if feature.dtype in {"bool", "string"}]
    numbers = [feature.name for feature in read if feature.dtype not in {"bool", "string"}]
    encode = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), categories),
            ("numbers", Pipeline([("fill", _ZeroForNull()), ("scale", StandardScaler())]), numbers),
        ]
    )
    return Pipeline([("encode", encode), ("regression", LogisticRegression(max_iter=ITERATIONS))])


class _ZeroForNull(TransformerMixin, BaseEstimator):
    """Fills missing numbers with 0 (a total before the first bill, a window without events)."""

    def fit(self, features: pd.DataFrame, churned: object = None) -> Self:  # noqa: ARG002
        self.n_features_in_ = features.shape[1]
        return self

    def transform(self, features: pd.DataFrame) -> Any:
        return features.fillna(0.0)
