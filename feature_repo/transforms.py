"""Derived features: columns -> columns, one definition for training, serving and batch. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from feature_repo.contract import ADD_ONS

Columns = Mapping[str, Sequence[Any]]

DERIVED_INPUTS: tuple[str, ...] = (
    "tenure_months",
    "monthly_charges_usd",
    "total_charges_usd",
    "payment_method",
    *ADD_ONS,
)
"""Stored features that :func:`derive` reads."""


def derive(columns: Columns) -> dict[str, list[Any]]:
    """Compute the derived features of the contract, row by row.

    Parameters
    ----------
    columns
        Name -> n values, at least :data:`DERIVED_INPUTS`. A value may be None (or NaN) where the store had none.

    Returns
    -------
    dict
        ``addon_count`` (int), ``average_monthly_spend_usd`` and ``charge_gap_usd`` (float, USD/month),
        ``automatic_payment`` (bool), n values each. A feature whose input is missing is None; a missing total
        before the first bill (tenure 0) is none of that: the average is then the current charge.
    """
    return {
        "addon_count": [_addon_count(row) for row in zip(*(columns[name] for name in ADD_ONS), strict=True)],
        "average_monthly_spend_usd": (averages := _averages(columns)),
        "charge_gap_usd": [
            None if charge is None or average is None else float(charge) - average
            for charge, average in zip(map(_known, columns["monthly_charges_usd"]), averages, strict=True)
        ],
        "automatic_payment": [
            None if method is None else method.endswith("(automatic)")
            for method in map(_known, columns["payment_method"])
        ],
    }


def _averages(columns: Columns) -> list[float | None]:
    named = ("tenure_months", "monthly_charges_usd", "total_charges_usd")
    return [_average(*map(_known, row)) for row in zip(*(columns[name] for name in named), strict=True)]


def _average(tenure: int | None, charge: float | None, total: float | None) -> float | None:
    if tenure is None or charge is None:
        return None
    if tenure == 0:
        return float(charge)
    return None if total is None else float(total) / tenure


def _addon_count(answers: Sequence[str | None]) -> int | None:
    known = [_known(answer) for answer in answers]
    return None if None in known else sum(answer == "Yes" for answer in known)


def _known(value: Any) -> Any:
    """Return None for every spelling of a missing value (None, NaN, NA), so that one rule follows."""
    if value is None or (isinstance(value, float) and isnan(value)) or type(value).__name__ == "NAType":
        return None
    return value
