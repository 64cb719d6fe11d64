"""The two additive parts of the model, each a function of its own design matrix on the log-odds margin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from bentos.bundle.design import Design, Floats, attribution, from_json, matrix, to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xgboost import Booster


@dataclass(frozen=True)
class Explained:
    """A part's margin (n,), the contributions (n, f) of the features asked for, and its base.

    base + contributions.sum(axis=1) is the margin, to the precision of the part (float32 for trees).
    """

    margin: Floats
    contributions: Floats
    base: float


@dataclass(frozen=True)
class LinearPart:
    """A logistic regression on standardised columns: margin = intercept + sum((x - mean) / scale * coefficient).

    ``mean``, ``scale`` and ``coefficients`` are (k,) float64, ``scale`` > 0.
    """

    design: Design
    mean: Floats
    scale: Floats
    coefficients: Floats
    intercept: float

    def columns(self, features: pd.DataFrame) -> Floats:
        """Return each column's contribution to the margin, (n, k) float64, relative to the training mean.

        For a linear model with the training mean as background this is the exact Shapley value of the column
        (Lundberg & Lee 2017, corollary 1).
        """
        standardised = (matrix(self.design, features) - self.mean) / self.scale
        return np.asarray(standardised * self.coefficients, dtype=np.float64)

    def explain(self, features: pd.DataFrame, names: Sequence[str]) -> Explained:
        """Return the margin and what each feature of ``names`` adds to it."""
        columns = self.columns(features)
        return Explained(self._margin(columns), columns @ attribution(self.design, names), self.intercept)

    def margin(self, features: pd.DataFrame) -> Floats:
        """Return the log-odds margin, (n,) float64."""
        return self._margin(self.columns(features))

    def _margin(self, columns: Floats) -> Floats:
        return np.asarray(columns.sum(axis=1) + self.intercept, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return the part as JSON values; floats keep every bit (Python's repr round-trips)."""
        return {
            "design": to_json(self.design),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "coefficients": self.coefficients.tolist(),
            "intercept": self.intercept,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote. Raises ValueError for columns that do not fit each other."""
        mean, scale, coefficients = (
            np.asarray(content[name], dtype=np.float64) for name in ("mean", "scale", "coefficients")
        )
        design, intercept = from_json(content["design"]), float(content["intercept"])
        for numbers in (mean, scale, coefficients):
            if numbers.shape != (len(design),) or not np.isfinite([*numbers, intercept]).all() or (scale <= 0).any():
                raise ValueError("the linear part's numbers do not fit its columns")
        return cls(design, mean, scale, coefficients, intercept)


@dataclass(frozen=True)
class TreePart:
    """Gradient-boosted trees. The booster holds exactly the rounds that score: it was sliced before it was saved."""

    design: Design
    booster: Booster

    def margin(self, features: pd.DataFrame) -> Floats:
        """Return the log-odds margin, (n,) float64."""
        return self._margin(self._data(features))[: len(features)]

    def explain(self, features: pd.DataFrame, names: Sequence[str]) -> Explained:
        """Return the margin and what each feature of ``names`` adds to it, by exact TreeSHAP.

        Path-dependent TreeSHAP (Lundberg et al. 2020), as XGBoost computes it; its last column is the base.
        """
        data, rows = self._data(features), len(features)
        values = np.asarray(self.booster.predict(data, pred_contribs=True), dtype=np.float64)
        shared = values[:rows, :-1] @ attribution(self.design, names)
        return Explained(self._margin(data)[:rows], shared, float(values[0, -1]))

    def _margin(self, data: Any) -> Floats:
        return np.asarray(self.booster.predict(data, output_margin=True), dtype=np.float64)

    def _data(self, features: pd.DataFrame) -> Any:
        from xgboost import DMatrix

        columns = matrix(self.design, features)
        if not len(columns):
            # XGBoost warns of an empty matrix and answers in another shape: one row, which the caller cuts off.
            columns = np.zeros((1, len(self.design)))
        # Columns go by position: the design is the order. A name check would cost a list per request.
        return DMatrix(columns.astype(np.float32), nthread=1)
