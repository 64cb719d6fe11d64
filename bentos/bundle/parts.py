"""The two additive parts of the model, each a function of its own design matrix on the log-odds margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from bentos.bundle.compiled import CompiledTrees, verified
from bentos.bundle.design import CompiledDesign, Design, Floats, attribution, from_json, to_json

if TYPE_CHECKING:
    from xgboost import Booster

TABLES_FOR_ROWS: Final = 256
"""Up to so many customers the tables give the margins quicker than XGBoost, which has a data set to make first."""


@dataclass(frozen=True)
class Explained:
    """A part's margin (n,), the contributions (n, f) of the features asked for, and its base.

    base + contributions.sum(axis=1) is the margin, to the precision of the part (float32 for trees).
    """

    margin: Floats
    contributions: Floats
    base: float


@dataclass(frozen=True)
class _Read:
    """A design for vectors of certain features, and where its columns' contributions go (k, f)."""

    design: CompiledDesign
    weights: Floats
    tables: CompiledTrees | None = None


@dataclass(frozen=True)
class LinearPart:
    """A logistic regression on standardised columns: margin = intercept + sum((x - mean) / scale * coefficient).

    ``mean``, ``scale`` and ``coefficients`` are (k,) float64, ``scale`` > 0. Methods take vectors (n, f) of the
    features ``names``, encoded as in feature_repo.stores.vectors.
    """

    design: Design
    mean: Floats
    scale: Floats
    coefficients: Floats
    intercept: float
    _reads: dict[tuple[str, ...], _Read] = field(default_factory=dict, init=False, repr=False, compare=False)

    def columns(self, vectors: Floats, names: Sequence[str]) -> Floats:
        """Return each column's contribution to the margin, (n, k) float64, relative to the training mean.

        For a linear model with the training mean as background this is the exact Shapley value of the column
        (Lundberg & Lee 2017, corollary 1).
        """
        standardised = (self._read(names).design.matrix(vectors) - self.mean) / self.scale
        return np.asarray(standardised * self.coefficients, dtype=np.float64)

    def explain(self, vectors: Floats, names: Sequence[str]) -> Explained:
        """Return the margin and what each feature of ``names`` adds to it."""
        columns = self.columns(vectors, names)
        return Explained(self._margin(columns), columns @ self._read(names).weights, self.intercept)

    def margin(self, vectors: Floats, names: Sequence[str]) -> Floats:
        """Return the log-odds margin, (n,) float64."""
        return self._margin(self.columns(vectors, names))

    def _margin(self, columns: Floats) -> Floats:
        return np.asarray(columns.sum(axis=1) + self.intercept, dtype=np.float64)

    def _read(self, names: Sequence[str]) -> _Read:
        key = tuple(names)
        if key not in self._reads:
            self._reads[key] = _Read(CompiledDesign.of(self.design, key), attribution(self.design, key))
        return self._reads[key]

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
    """Gradient-boosted trees. The booster holds exactly the rounds that score: it was sliced before it was saved.

    Methods take vectors as those of :class:`LinearPart`. The first explanation makes the tables that all others are
    looked up in; where trees have none, XGBoost explains.
    """

    design: Design
    booster: Booster
    _reads: dict[tuple[str, ...], _Read] = field(default_factory=dict, init=False, repr=False, compare=False)

    def margin(self, vectors: Floats, names: Sequence[str]) -> Floats:
        """Return the log-odds margin, (n,) float64: the same to the bit by whichever way."""
        read = self._reads.get(tuple(names))
        if read is not None and read.tables is not None and len(vectors) <= TABLES_FOR_ROWS:
            return read.tables.margin(read.design.matrix(vectors).astype(np.float32))
        return self._margin(_data(CompiledDesign.of(self.design, names).matrix(vectors)))[: len(vectors)]

    def explain(self, vectors: Floats, names: Sequence[str]) -> Explained:
        """Return the margin and what each feature of ``names`` adds to it, by exact TreeSHAP.

        Path-dependent TreeSHAP (Lundberg et al. 2020), as XGBoost computes it, but in float64.
        """
        read = self._read(names)
        columns = read.design.matrix(vectors)
        if read.tables is not None:
            return Explained(*read.tables.explain(columns.astype(np.float32)), read.tables.base)
        data, rows = _data(columns), len(vectors)
        values = np.asarray(self.booster.predict(data, pred_contribs=True), dtype=np.float64)
        return Explained(self._margin(data)[:rows], values[:rows, :-1] @ read.weights, float(values[0, -1]))

    def tabled(self, names: Sequence[str]) -> bool:
        """Return whether explanations are looked up."""
        return self._read(names).tables is not None

    def _read(self, names: Sequence[str]) -> _Read:
        key = tuple(names)
        if key not in self._reads:
            weights = attribution(self.design, key)
            self._reads[key] = _Read(CompiledDesign.of(self.design, key), weights, verified(self.booster, weights))
        return self._reads[key]

    def _margin(self, data: Any) -> Floats:
        return np.asarray(self.booster.predict(data, output_margin=True), dtype=np.float64)


def _data(columns: Floats) -> Any:
    from xgboost import DMatrix

    if not len(columns):
        # XGBoost warns of an empty matrix and answers in another shape: one row, which the caller cuts off.
        columns = np.zeros((1, columns.shape[1]))
    # Columns go by position: the design is the order. A name check would cost a list per request.
    return DMatrix(columns.astype(np.float32), nthread=1)
