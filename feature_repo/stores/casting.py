"""Casts of store values to the contract's types, the same for offline and online values. Pure.

Used by every reader of features. See docs/decisions/0012-point-in-time-join.md and docs/decisions/0025-online-reads.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import pandas as pd

from feature_repo.contract import DType, Feature

_PYTHON: Final[dict[DType, Callable[[Any], Any]]] = {"bool": bool, "int64": int, "float64": float, "string": str}


def to_python_values(feature: Feature, values: Sequence[Any]) -> list[Any]:
    """Return the values as bool, int, float or str; each representation of null becomes None.

    A store may return an integer column with a null as floats (pandas has no integer null), numpy scalars or pandas NA;
    the same value must be equal from both stores.

    Raises
    ------
    ValueError
        For a float in an integer feature that is not whole.

    Examples
    --------
    >>> import numpy as np
    >>> from feature_repo.contract import BY_NAME
    >>> from feature_repo.stores.casting import to_python_values
    >>> to_python_values(BY_NAME["tenure_months"], [12.0, np.int64(3), float("nan")])
    [12, 3, None]
    """
    cast = _PYTHON[feature.dtype]
    known: list[Any] = []
    for value in values:
        if pd.isna(value):
            known.append(None)
        elif feature.dtype == "int64" and value != int(value):
            raise ValueError(f"{feature.name}: {value!r} is no integer")
        else:
            known.append(cast(value))
    return known


def to_dataframe(features: Sequence[Feature], columns: dict[str, Sequence[Any]]) -> pd.DataFrame:
    """Return a frame with one column per feature, in the given order.

    Parameters
    ----------
    features
        f features.
    columns
        Name -> n values as a store returns them; other columns are ignored.

    Returns
    -------
    pd.DataFrame
        (n, f). bool and string features are object (None where null), int64 and float64 are float64 (NaN where null):
        one numeric type, so that a null in one row never changes the dtype of the others.

    Raises
    ------
    KeyError, ValueError
        If a feature has no column; as :func:`to_python_values`.

    Examples
    --------
    >>> from feature_repo.contract import BY_NAME
    >>> from feature_repo.stores.casting import to_dataframe
    >>> features = [BY_NAME["tenure_months"], BY_NAME["partner"]]
    >>> to_dataframe(features, {"tenure_months": [12, None], "partner": [True, False]})
       tenure_months partner
    0           12.0    True
    1            NaN   False
    """
    frame = {}
    for feature in features:
        values = to_python_values(feature, columns[feature.name])
        numeric = feature.dtype in {"int64", "float64"}
        frame[feature.name] = pd.Series(values, dtype="float64" if numeric else "object")
    return pd.DataFrame(frame)


as_frame = to_dataframe
"""The name that model scripts stored in MLflow import."""
