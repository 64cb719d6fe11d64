"""From features to the numbers that a model reads: a design matrix that is data, so that it travels as JSON.

Training fits on the matrix that :func:`matrix` makes, and a bundle scores on the one that the same function makes:
there is no second spelling of the preprocessing that could drift from the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Op = Literal["number", "log1p", "above", "at_most", "missing", "equals"]
_NUMERIC: Final = frozenset({"number", "log1p", "above", "at_most", "missing"})

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Factor:
    """One number of one feature.

    ``op``: *number* the value; *log1p* ln(1 + value); *above* max(0, value - ``value``); *at_most* 1 if the value
    is <= ``value`` else 0; *missing* 1 if the value is null else 0; *equals* 1 if the feature is ``value`` (a string
    or bool) else 0. ``shift`` is subtracted afterwards (products of centred numbers say more). A null number counts
    as 0 in every other operation: a design that must tell the two apart has a *missing* column beside.
    """

    feature: str
    op: Op
    value: float | str | bool | None = None
    shift: float = 0.0

    def __post_init__(self) -> None:
        if self.op not in _NUMERIC | {"equals"}:
            raise ValueError(f"unknown operation {self.op!r} of feature {self.feature}")

    def numbers(self, features: pd.DataFrame) -> Floats:
        """Return the factor of each row, (n,) float64, finite. Raises KeyError if the frame lacks the feature."""
        column = features[self.feature].to_numpy()
        if self.op == "equals":
            numbers = np.asarray(column == self.value, dtype=np.float64)
        elif self.op == "missing":
            numbers = np.isnan(column.astype(np.float64)).astype(np.float64)
        else:
            numbers = np.nan_to_num(column.astype(np.float64), nan=0.0)
        if self.op == "log1p":
            numbers = np.asarray(np.log1p(numbers), dtype=np.float64)
        elif self.op == "above":
            numbers = np.asarray(np.maximum(numbers - float(self.value or 0), 0.0), dtype=np.float64)
        elif self.op == "at_most":
            numbers = np.asarray(numbers <= float(self.value or 0), dtype=np.float64)
        return np.asarray(numbers - self.shift, dtype=np.float64)


@dataclass(frozen=True)
class Column:
    """One column of the design: the product of its factors."""

    name: str
    factors: tuple[Factor, ...]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read what ``asdict`` wrote."""
        return cls(content["name"], tuple(Factor(**factor) for factor in content["factors"]))


Design = tuple[Column, ...]


def matrix(design: Design, features: pd.DataFrame) -> Floats:
    """Return the design matrix, (n rows of ``features``, k columns of ``design``) float64, finite."""
    made: dict[Factor, Floats] = {}
    result = np.empty((len(features), len(design)), dtype=np.float64)
    for position, column in enumerate(design):
        product = np.ones(len(features))
        for factor in column.factors:
            # Factors recur (a hinge, its product with a contract): each is computed once.
            if factor not in made:
                made[factor] = factor.numbers(features)
            product = product * made[factor]
        result[:, position] = product
    return result


def attribution(design: Design, names: Sequence[str]) -> Floats:
    """Return the (k, f) weights that carry a column's contribution to the features ``names``; each row sums to 1.

    A column of one factor belongs to its feature. A product of two belongs to both, half and half: what neither
    could say alone is shared evenly, as the Shapley value does with a term that two players make together.
    """
    position = {name: index for index, name in enumerate(names)}
    weights = np.zeros((len(design), len(names)))
    for row, column in enumerate(design):
        for factor in column.factors:
            weights[row, position[factor.feature]] += 1 / len(column.factors)
    return weights


def to_json(design: Design) -> list[dict[str, Any]]:
    """Return the design as JSON values."""
    return [asdict(column) for column in design]


def from_json(content: list[dict[str, Any]]) -> Design:
    """Read what :func:`to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    return tuple(Column.from_json(column) for column in content)
