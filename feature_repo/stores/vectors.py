"""Numeric encoding of features, shared by design matrices, trees and online reads. Pure.

There is no second encoding: a model reads the numbers that it was trained on. See
docs/decisions/0005-bundle-is-data.md.
"""

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
"""The code of a category outside the contract's domain, different from all codes of the domain."""


def encode_value(feature: Feature, value: Any) -> float:
    """Return the number that encodes a value in a vector.

    Numbers stay as they are, bools become 1 and 0, categories their index in ``feature.categories`` or
    :data:`UNKNOWN_CATEGORY`, each representation of null NaN.

    Examples
    --------
    >>> from feature_repo.contract import BY_NAME
    >>> from feature_repo.stores.vectors import encode_value
    >>> contract = BY_NAME["contract_type"]
    >>> contract.categories
    ('Month-to-month', 'One year', 'Two year')
    >>> [encode_value(contract, value) for value in ("Two year", "Ten years", None)]
    [2.0, -1.0, nan]
    """
    if feature.categories:
        return _word(feature, value)
    return math.nan if _is_null(value) else float(value)


def category_encoder(feature: Feature) -> Callable[[Any], float]:
    """Return :func:`encode_value` of one feature, for values that are native Python objects (None where null)."""
    if feature.categories:
        codes = _codes(feature)
        return lambda value: codes.get(value, UNKNOWN_CATEGORY)
    return lambda value: math.nan if value is None else float(value)


def encode_features(features: Sequence[Feature], columns: Mapping[str, Sequence[Any]] | pd.DataFrame) -> Vectors:
    """Return features as numbers.

    Parameters
    ----------
    features
        f features.
    columns
        Name -> n values, of a mapping or a frame; other columns are ignored.

    Returns
    -------
    numpy.ndarray
        (n, f) float64, one column per feature in the given order; NaN where null.

    Raises
    ------
    KeyError
        If a feature has no column.

    Examples
    --------
    >>> from feature_repo.contract import BY_NAME
    >>> from feature_repo.stores.vectors import encode_features
    >>> features = [BY_NAME["partner"], BY_NAME["total_charges_usd"]]
    >>> encode_features(features, {"partner": [True, False], "total_charges_usd": [29.85, None]}).tolist()
    [[1.0, 29.85], [0.0, nan]]
    """
    encoded = [_column(feature, columns[feature.name]) for feature in features]
    return np.column_stack(encoded) if encoded else np.empty((0, 0))


def _column(feature: Feature, values: Any) -> Vectors:
    if getattr(values, "dtype", None) == np.float64 and not feature.categories:
        return np.asarray(values, dtype=np.float64)
    known = _codes(feature)
    # The dictionary has nearly all values; others are representations of null, numbers, or not in the domain.
    return np.fromiter(
        (known[each] if each in known else encode_value(feature, each) for each in values), np.float64, len(values)
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
    """Return whether a value is null: None, NaN or pandas' NA."""
    if value is None:
        return True
    import pandas as pd

    return bool(pd.isna(value))
