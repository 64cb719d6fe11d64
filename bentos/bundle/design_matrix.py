"""Design matrix: the declarative preprocessing from features to model inputs, stored as JSON.

Training fits on the matrix that :func:`matrix` returns, and a bundle scores on that of the same function: there is no
second implementation of the preprocessing that could differ from the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feature_repo.contract import BY_NAME
from feature_repo.stores.vectors import UNKNOWN_CATEGORY, encode_features, encode_value

Op = Literal["number", "log1p", "above", "at_most", "missing", "equals"]
_OPERATIONS: Final = frozenset(get_args(Op))
_NO_CODE: Final = -2.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Factor:
    """A transformation of one feature to one number.

    ``op``: *number* the value; *log1p* ln(1 + value); *above* max(0, value - ``value``); *at_most* 1 if the value is <=
    ``value`` else 0; *missing* 1 if the value is null else 0; *equals* 1 if the feature is ``value`` (a string or bool)
    else 0. ``shift`` is subtracted afterwards (it centres the factors of a product). A null number counts as 0 in every
    other operation: a design that must distinguish the two has an additional *missing* column.
    """

    feature: str
    op: Op
    value: float | str | bool | None = None
    shift: float = 0.0

    def __post_init__(self) -> None:
        if self.op not in _OPERATIONS:
            raise ValueError(f"unknown operation {self.op!r} of feature {self.feature}")

    def operand(self) -> float:
        """Return ``value`` as the operation takes it: a number, or the code of a string or bool."""
        if self.op == "equals":
            code = encode_value(BY_NAME[self.feature], self.value)
            # A string that no customer has must not equal the strings outside the domain.
            return _NO_CODE if code == UNKNOWN_CATEGORY else code
        return float(self.value or 0)


@dataclass(frozen=True)
class Term:
    """One column of the design: the product of its factors."""

    name: str
    factors: tuple[Factor, ...]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read what ``asdict`` wrote."""
        return cls(content["name"], tuple(Factor(**factor) for factor in content["factors"]))


Design = tuple[Term, ...]


@dataclass(frozen=True)
class CompiledDesign:
    """A design as arrays, for vectors whose columns are the given features. Made by :meth:`of`.

    m distinct factors, those of one operation contiguous: ``positions`` (m,) columns of the vectors, ``groups``
    (operation, slice of the factors, operands), ``shifts`` (m,). The first factor of each of the k columns is
    ``firsts`` (k,); ``more`` holds (columns, factors) to multiply by, one entry per further factor.
    """

    positions: NDArray[np.intp]
    groups: tuple[tuple[Op, slice, Floats], ...]
    shifts: Floats
    firsts: NDArray[np.intp]
    more: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]

    @classmethod
    def of(cls, design: Design, names: Sequence[str]) -> Self:
        """Compile a design for vectors of the features ``names``. Raises KeyError if one is missing."""
        place = {name: index for index, name in enumerate(names)}
        # Factors recur (a hinge, its product with a contract): each is computed once.
        factors = sorted({each for column in design for each in column.factors}, key=lambda each: each.op)
        position = {factor: index for index, factor in enumerate(factors)}
        groups = []
        for op in dict.fromkeys(factor.op for factor in factors):
            own = [factor for factor in factors if factor.op == op]
            start = position[own[0]]
            operands = np.array([factor.operand() for factor in own])
            groups.append((op, slice(start, start + len(own)), operands))
        more = []
        for depth in range(1, max((len(column.factors) for column in design), default=1)):
            deep = [index for index, column in enumerate(design) if len(column.factors) > depth]
            more.append((_places(deep), _places([position[design[index].factors[depth]] for index in deep])))
        return cls(
            _places([place[factor.feature] for factor in factors]),
            tuple(groups),
            np.array([factor.shift for factor in factors]),
            _places([position[column.factors[0]] for column in design]),
            tuple(more),
        )

    def matrix(self, vectors: Floats) -> Floats:
        """Return the design matrix, (n, k) float64, finite.

        ``vectors`` (n, f) are encoded as feature_repo.stores.vectors does.
        """
        # take returns C-contiguous rows, which indexing does not: sums over a row would then be added up in another
        # order for one row than for many.
        raw = vectors.take(self.positions, axis=1)
        null = np.isnan(raw)
        numbers = np.where(null, 0.0, raw)
        for op, own, operands in self.groups:
            if op == "equals":
                np.equal(raw[:, own], operands, out=numbers[:, own])
            elif op == "missing":
                numbers[:, own] = null[:, own]
            else:
                _IN_PLACE[op](numbers[:, own], operands)
        numbers -= self.shifts
        columns = numbers.take(self.firsts, axis=1)
        for deep, factors in self.more:
            columns[:, deep] *= numbers[:, factors]
        return np.asarray(columns, dtype=np.float64)


def matrix(design: Design, features: pd.DataFrame) -> Floats:
    """Return the design matrix, (n rows of ``features``, k columns of ``design``) float64, finite.

    Raises KeyError if the frame lacks a feature that the design reads.
    """
    names = tuple(dict.fromkeys(factor.feature for column in design for factor in column.factors))
    if gone := [name for name in names if name not in features]:
        raise KeyError(", ".join(gone))
    return CompiledDesign.of(design, names).matrix(encode_features([BY_NAME[name] for name in names], features))


def _above(numbers: Floats, knots: Floats) -> None:
    np.maximum(np.subtract(numbers, knots, out=numbers), 0.0, out=numbers)


_IN_PLACE: Final[dict[str, Callable[[Floats, Floats], object]]] = {
    "number": lambda _numbers, _operands: None,
    "log1p": lambda numbers, _: np.log1p(numbers, out=numbers),
    "above": _above,
    "at_most": lambda numbers, most: np.less_equal(numbers, most, out=numbers),
}
"""Maps an operation to its function of the (n, j) numbers of its factors, nulls being 0, and its (j,) operands."""


def _places(indices: list[int]) -> NDArray[np.intp]:
    return np.array(indices, dtype=np.intp)


def attribution(design: Design, names: Sequence[str]) -> Floats:
    """Return the (k, f) weights of each column's contribution to ``names``; each row sums to 1.

    A column of one factor belongs to its feature. A product of two belongs to both, half each: the Shapley value splits
    a term that two players make together evenly.
    """
    position = {name: index for index, name in enumerate(names)}
    weights = np.zeros((len(design), len(names)))
    for row, column in enumerate(design):
        for factor in column.factors:
            weights[row, position[factor.feature]] += 1 / len(column.factors)
    return weights


def design_to_json(design: Design) -> list[dict[str, Any]]:
    """Return the design as JSON values."""
    return [asdict(column) for column in design]


def design_from_json(content: list[dict[str, Any]]) -> Design:
    """Read what :func:`design_to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    return tuple(Term.from_json(column) for column in content)
