"""The design columns of the linear part and of the trees, defined by the contract's features.

Selected for the core by cross-validation on the public Telco file; see docs/decisions/0004-blended-model.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bentos.bundle.design_matrix import Design, Factor, Term
from feature_repo.contract import BEHAVIOR_SERVICE, CORE_SERVICE, SERVICES_OF, features_of


@dataclass(frozen=True)
class ModelDesign:
    """Columns of both parts, and the monotone constraint (-1, 0, 1) of each tree column."""

    linear: Design
    trees: Design
    monotone: tuple[int, ...]


TENURE_KNOTS: Final = (1, 2, 3, 6, 12, 24, 36, 48, 60, 70)
"""Months at which the slope of tenure may change; dense where churn is highest."""
CHARGE_KNOTS: Final = (25, 45, 60, 70, 80, 90, 100)
"""USD per month, roughly the deciles of the public file."""
ONE_HOT: Final = ("internet_service", "contract_type", "payment_method")


def _number(feature: str) -> Term:
    return Term(feature, (Factor(feature, "number"),))


def _categories() -> list[Term]:
    """Return one 0/1 column per yes/no feature, and one per value of the features with more values.

    "No internet service" is encoded as no add-on: `internet_service` has this value already.
    """
    columns = []
    for feature in features_of(CORE_SERVICE):
        if feature.derived:
            continue
        if feature.name in ONE_HOT:
            values: tuple[str | bool, ...] = feature.categories
        elif feature.dtype == "bool":
            values = (True,)
        elif feature.dtype == "string":
            values = ("Yes",)
        else:
            values = ()
        columns += [Term(f"{feature.name}={value}", (Factor(feature.name, "equals", value),)) for value in values]
    return columns


_LOG_TENURE: Final = Factor("tenure_months", "log1p", shift=3.0)
_CHARGE: Final = Factor("monthly_charges_usd", "number", shift=65.0)
_FIRST_MONTH: Final = Factor("tenure_months", "at_most", 1.0)
_MONTHLY: Final = Factor("contract_type", "equals", "Month-to-month")
_TWO_YEAR: Final = Factor("contract_type", "equals", "Two year")
_FIBER: Final = Factor("internet_service", "equals", "Fiber optic")
_NO_INTERNET: Final = Factor("internet_service", "equals", "No")

_PRODUCTS: Final = {
    "first_month*monthly": (_FIRST_MONTH, _MONTHLY),
    "log_tenure*monthly": (_LOG_TENURE, _MONTHLY),
    "log_tenure*two_year": (_LOG_TENURE, _TWO_YEAR),
    "log_tenure*fiber": (_LOG_TENURE, _FIBER),
    "log_tenure*no_internet": (_LOG_TENURE, _NO_INTERNET),
    "charge*monthly": (_CHARGE, _MONTHLY),
    "charge*two_year": (_CHARGE, _TWO_YEAR),
    "monthly*fiber": (_MONTHLY, _FIBER),
    "monthly*no_internet": (_MONTHLY, _NO_INTERNET),
    "two_year*fiber": (_TWO_YEAR, _FIBER),
    "two_year*no_internet": (_TWO_YEAR, _NO_INTERNET),
}

DERIVED_COLUMNS: Final = (
    _number("protection_count"),
    Term("automatic_payment=True", (Factor("automatic_payment", "equals", value=True),)),
)

LINEAR_TERMS: Final[Design] = (
    *_categories(),
    *DERIVED_COLUMNS,
    _number("tenure_months"),
    Term("log_tenure", (Factor("tenure_months", "log1p"),)),
    _number("monthly_charges_usd"),
    _number("total_charges_usd"),
    *(Term(f"tenure>{knot}", (Factor("tenure_months", "above", float(knot)),)) for knot in TENURE_KNOTS),
    *(Term(f"charge>{knot}", (Factor("monthly_charges_usd", "above", float(knot)),)) for knot in CHARGE_KNOTS),
    Term("first_month", (_FIRST_MONTH,)),
    *(Term(name, factors) for name, factors in _PRODUCTS.items()),
)

TREE_TERMS: Final[Design] = (
    *_categories(),
    _number("tenure_months"),
    _number("monthly_charges_usd"),
    _number("total_charges_usd"),
)


def _hinges(feature: str, *knots: float) -> list[Term]:
    return [Term(f"{feature}>{knot:g}", (Factor(feature, "above", float(knot)),)) for knot in knots]


def _missing(*features: str) -> list[Term]:
    return [Term(f"{feature}=null", (Factor(feature, "missing"),)) for feature in features]


def _log(*features: str) -> list[Term]:
    return [Term(f"log_{feature}", (Factor(feature, "log1p"),)) for feature in features]


BEHAVIOR_LINEAR: Final[Design] = (
    Term("activity_known=True", (Factor("activity_known", "equals", value=True),)),
    *_log("usage_data_mb_7d", "usage_data_mb_30d", "usage_data_mb_90d", "usage_voice_minutes_30d"),
    _number("usage_active_days_30d"),
    _number("usage_trend"),
    *_hinges("usage_trend", 0.4, 0.7, 1.0, 1.3),
    *_missing("usage_trend"),
    *_log("logins_30d"),
    _number("days_since_login"),
    *_hinges("days_since_login", 7, 14, 30, 60),
    *_missing("days_since_login"),
    _number("tickets_30d"),
    *_hinges("tickets_30d", 1, 2),
    _number("tickets_90d"),
    _number("tickets_open"),
    *_log("resolution_hours_90d"),
    *_hinges("resolution_hours_90d", 24, 48, 72),
    *_missing("resolution_hours_90d"),
    _number("late_payments_90d"),
    *_log("payment_days_late_90d"),
    _number("price_change_usd_90d"),
    *_hinges("price_change_usd_90d", 0, 5),
    _number("days_since_price_change"),
    *_missing("days_since_price_change"),
    _number("months_since_anniversary"),
    _number("months_to_renewal"),
    *_hinges("months_to_renewal", 1, 3),
    *_missing("months_to_renewal"),
)

_NUMBERS: Final = tuple(
    feature.name
    for feature in features_of(BEHAVIOR_SERVICE)
    if feature.name not in SERVICES_OF[CORE_SERVICE] and feature.dtype in {"int64", "float64"}
)
BEHAVIOR_TREES: Final[Design] = (
    *(_number(name) for name in _NUMBERS),
    *_missing(
        "usage_trend", "days_since_login", "resolution_hours_90d", "days_since_price_change", "months_to_renewal"
    ),
)

_DIRECTION: Final = {
    "tenure_months": -1,
    "contract_type=Month-to-month": 1,
    "contract_type=Two year": -1,
    "internet_service=Fiber optic": 1,
    "online_security=Yes": -1,
    "tech_support=Yes": -1,
    "dependents=True": -1,
    "paperless_billing=True": 1,
    "payment_method=Electronic check": 1,
}
"""Monotone constraints of the trees by column, so that no reason contradicts domain knowledge."""


def _designs(linear: Design, trees: Design) -> ModelDesign:
    return ModelDesign(linear, trees, tuple(_DIRECTION.get(column.name, 0) for column in trees))


DESIGNS: Final[dict[str, ModelDesign]] = {
    CORE_SERVICE: _designs(LINEAR_TERMS, TREE_TERMS),
    BEHAVIOR_SERVICE: _designs((*LINEAR_TERMS, *BEHAVIOR_LINEAR), (*TREE_TERMS, *BEHAVIOR_TREES)),
}
"""Feature service -> designs of the model that reads it."""


def service_of(names: Iterable[str]) -> str:
    """Return the service with exactly these features in this order. Raises ValueError if there is none."""
    found = tuple(names)
    for service in DESIGNS:
        if SERVICES_OF[service] == found:
            return service
    raise ValueError(f"no model reads these {len(found)} features: one of {', '.join(DESIGNS)} in contract order")
