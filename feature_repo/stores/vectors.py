"""Features as numbers: the one encoding that designs, trees and the online read share. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from feature_repo.contract import Feature

if TYPE_CHECKING:
    import pandas as pd

Vectors = npt.NDArray[np.float64]

UNKNOWN_CATEGORY: Final = -1.0
"""The code of a word outside the contract's domain: it equals none of them."""


def code_of(feature: Feature, value: Any) -> float:
    """Return the number that stands for a value in a vector.

    Numbers are themselves, bools 1 and 0, words their place in ``feature.categories``, every spelling of null NaN.
    """
    if feature.categories:
        return _word(feature, value)
    return math.nan if _is_null(value) else float(value)


def coder(feature: Feature) -> Callable[[Any], float]:
    """Return :func:`code_of` of one feature, for values that are already Python's own (None where null)."""
    if feature.categories:
        codes = _codes(feature)
        return lambda value: codes.get(value, UNKNOWN_CATEGORY)
    return lambda value: math.nan if value is None else float(value)


def encode(features: Sequence[Feature], columns: Mapping[str, Sequence[Any]] | pd.DataFrame) -> Vectors:
    """Return (n, f) float64, one column a feature in the given order, of any columns that hold them by name."""
    encoded = [_column(feature, columns[feature.name]) for feature in features]
    return np.column_stack(encoded) if encoded else np.empty((0, 0))


def _column(feature: Feature, values: Any) -> Vectors:
    if getattr(values, "dtype", None) == np.float64 and not feature.categories:
        return np.asarray(values, dtype=np.float64)
    known = _codes(feature)
    # A dictionary finds nearly all; what it does not hold is some spelling of null, a number, or no word of the domain.
    return np.fromiter(
        (known[each] if each in known else code_of(feature, each) for each in values), np.float64, len(values)
    )


def _codes(feature: Feature) -> dict[Any, float]:
    if feature.dtype == "bool":
        return {True: 1.0, False: 0.0, None: math.nan}
    return {word: float(place) for place, word in enumerate(feature.categories)} | {None: math.nan}


def _word(feature: Feature, value: Any) -> float:
    if isinstance(value, str):
        return float(feature.categories.index(value)) if value in feature.categories else UNKNOWN_CATEGORY
    return math.nan if _is_null(value) else UNKNOWN_CATEGORY


def _is_null(value: Any) -> bool:
    """Return whether a value is one of the spellings of null: None, NaN, pandas' NA."""
    if value is None:
        return True
    import pandas as pd

    return bool(pd.isna(value))
