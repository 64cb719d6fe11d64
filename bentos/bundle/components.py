"""The two additive components of the model: each maps its own design matrix to the log-odds margin.

Used by :class:`bentos.bundle.Bundle`. See docs/decisions/0004-blended-model.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from bentos.bundle.design_matrix import Design, Floats, attribution, design_from_json, design_to_json
from bentos.bundle.treeshap.tree_tables import TreeTables, compile_verified

if TYPE_CHECKING:
    from xgboost import Booster

LOOK_UPS_MAX: Final = 32_000
"""Most look-ups (customers times units of the tables) for which the tables compute margins faster than XGBoost, which
first has to build a data set. Trees of one unit each are faster by tables for any number of customers.
"""


@dataclass(frozen=True)
class ComponentExplanation:
    """A component's margin (n,), the contributions (n, f) of the requested features, and its base.

    base + contributions.sum(axis=1) is the margin, to the precision of the component (float32 for trees).
    """

    margin: Floats
    contributions: Floats
    base: float


@dataclass(frozen=True)
class LinearComponent:
    """A logistic regression on standardised columns: intercept + sum((x - mean) / scale * coefficient).

    ``mean``, ``scale`` and ``coefficients`` are (k,) float64, ``scale`` > 0. Methods take the matrix (n, k) of the
    design; ``names`` are the features that contributions are returned for, including all that the design reads.
    """

    design: Design
    mean: Floats
    scale: Floats
    coefficients: Floats
    intercept: float
    _weights: dict[tuple[str, ...], Floats] = field(default_factory=dict, init=False, repr=False, compare=False)

    def columns(self, matrix: Floats) -> Floats:
        """Return each column's contribution to the margin, (n, k) float64, relative to the training mean.

        For a linear model with the training mean as background this is the exact Shapley value of the column
        (Lundberg & Lee 2017, corollary 1).
        """
        columns = matrix - self.mean
        columns /= self.scale
        columns *= self.coefficients
        return columns

    def explain(self, matrix: Floats, names: Sequence[str]) -> ComponentExplanation:
        """Return the margin and the contribution of each feature of ``names`` to it."""
        columns = self.columns(matrix)
        return ComponentExplanation(self._margin(columns), columns @ self._weights_of(names), self.intercept)

    def margin(self, matrix: Floats) -> Floats:
        """Return the log-odds margin, (n,) float64."""
        return self._margin(self.columns(matrix))

    def _margin(self, columns: Floats) -> Floats:
        return np.asarray(columns.sum(axis=1) + self.intercept, dtype=np.float64)

    def _weights_of(self, names: Sequence[str]) -> Floats:
        key = tuple(names)
        if key not in self._weights:
            self._weights[key] = attribution(self.design, key)
        return self._weights[key]

    def to_json(self) -> dict[str, Any]:
        """Return the component as JSON values; floats keep every bit (Python's repr round-trips)."""
        return {
            "design": design_to_json(self.design),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "coefficients": self.coefficients.tolist(),
            "intercept": self.intercept,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote. Raises ValueError if the shapes of the columns do not match."""
        mean, scale, coefficients = (
            np.asarray(content[name], dtype=np.float64) for name in ("mean", "scale", "coefficients")
        )
        design, intercept = design_from_json(content["design"]), float(content["intercept"])
        for numbers in (mean, scale, coefficients):
            if numbers.shape != (len(design),) or not np.isfinite([*numbers, intercept]).all() or (scale <= 0).any():
                raise ValueError("the linear part's numbers do not fit its columns")
        return cls(design, mean, scale, coefficients, intercept)


@dataclass(frozen=True)
class TreeComponent:
    """Gradient-boosted trees.

    The booster holds exactly the rounds that score: it was sliced before saving.

    Methods take the matrix (n, k) of the design, as those of :class:`LinearComponent` do. The first explanation
    compiles the tables that all later ones are looked up in; where the trees have no tables, XGBoost explains.
    """

    design: Design
    booster: Booster
    _tables: dict[tuple[str, ...], _Tables] = field(default_factory=dict, init=False, repr=False, compare=False)

    def margin(self, matrix: Floats) -> Floats:
        """Return the log-odds margin, (n,) float64: bit-identical from the tables and from XGBoost."""
        tables = next((each.trees for each in self._tables.values() if each.trees), None)
        if tables is not None and (tables.shallow or len(matrix) * len(tables.offsets) <= LOOK_UPS_MAX):
            return tables.margin(matrix.astype(np.float32))
        return self._margin(_data(matrix))[: len(matrix)]

    def explain(self, matrix: Floats, names: Sequence[str]) -> ComponentExplanation:
        """Return the margin and the contribution of each feature of ``names`` to it, by exact TreeSHAP.

        Path-dependent TreeSHAP (Lundberg et al. 2020), as XGBoost computes it, but in float64.
        """
        tables = self._tables_of(names)
        if tables.trees is not None:
            return ComponentExplanation(*tables.trees.explain(matrix.astype(np.float32)), tables.trees.base)
        data, rows = _data(matrix), len(matrix)
        values = np.asarray(self.booster.predict(data, pred_contribs=True), dtype=np.float64)
        return ComponentExplanation(
            self._margin(data)[:rows], values[:rows, :-1] @ tables.weights, float(values[0, -1])
        )

    def _tables_of(self, names: Sequence[str]) -> _Tables:
        key = tuple(names)
        if key not in self._tables:
            weights = attribution(self.design, key)
            self._tables[key] = _Tables(weights, compile_verified(self.booster, weights))
        return self._tables[key]

    def _margin(self, data: Any) -> Floats:
        return np.asarray(self.booster.predict(data, output_margin=True), dtype=np.float64)


@dataclass(frozen=True)
class _Tables:
    """Weights from columns to features (k, f), and the compiled tables of the trees, if any."""

    weights: Floats
    trees: TreeTables | None


def _data(columns: Floats) -> Any:
    from xgboost import DMatrix

    if not len(columns):
        # XGBoost warns of an empty matrix and returns another shape: pass one row, which the caller cuts off.
        columns = np.zeros((1, columns.shape[1]))
    # Columns go by position: the design defines the order. A name check would cost a list per request.
    return DMatrix(columns.astype(np.float32), nthread=1)
