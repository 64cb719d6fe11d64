"""Derived features: columns -> columns, one definition for training, serving and batch. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feature_repo.contract import PROTECTION

Columns = Mapping[str, Sequence[Any]]


def derive(columns: Columns) -> dict[str, list[Any]]:
    """Compute the derived features of the contract, row by row.

    Parameters
    ----------
    columns
        Name -> n values, at least ``payment_method`` and the four protective add-ons. A value may be None (or NaN)
        where the store had none.

    Returns
    -------
    dict
        ``protection_count`` (int) and ``automatic_payment`` (bool), n values each; None where an input is missing.
    """
    return {
        "protection_count": [_count(row) for row in zip(*(columns[name] for name in PROTECTION), strict=True)],
        "automatic_payment": [_automatic(method) for method in columns["payment_method"]],
    }


def _count(answers: Sequence[Any]) -> int | None:
    # Every spelling of a missing value (None, NaN, NA) is no string, so that one rule follows.
    return sum(answer == "Yes" for answer in answers) if all(isinstance(each, str) for each in answers) else None


def _automatic(method: Any) -> bool | None:
    return method.endswith("(automatic)") if isinstance(method, str) else None
