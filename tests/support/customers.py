"""Customers written out, feature by feature, for tests of what is said of one and offered to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bentos.decisions.counterfactuals import Recommendation, lever_candidates
from feature_repo.contract import ADD_ONS
from feature_repo.stores.vectors import encode_features

if TYPE_CHECKING:
    from bentos.decisions.counterfactuals import Floats
    from bentos.decisions.levers import Levers

NEWCOMER = {
    "partner": True,
    "dependents": False,
    "tenure_months": 1,
    "contract_type": "Month-to-month",
    "phone_service": False,
    "multiple_lines": "No phone service",
    "internet_service": "DSL",
    "online_security": "No",
    "online_backup": "Yes",
    "device_protection": "No",
    "tech_support": "No",
    "streaming_tv": "No",
    "streaming_movies": "No",
    "paperless_billing": True,
    "payment_method": "Electronic check",
    "monthly_charges_usd": 29.85,
    "total_charges_usd": None,
    "protection_count": 1,
    "automatic_payment": False,
}
"""The first of the public file, before the first bill: no telephone, DSL with one add-on, bound to nothing."""
NO_INTERNET = {"internet_service": "No", "protection_count": 0} | dict.fromkeys(ADD_ONS, "No internet service")


def vectors_of(levers: Levers, rows: Sequence[Sequence[Any]]) -> Floats:
    """Customers' values, encoded (n, f)."""
    columns = zip(*rows, strict=True)
    return encode_features(
        levers.features, {each.name: column for each, column in zip(levers.features, columns, strict=True)}
    )


def recommended(
    levers: Levers, rows: Sequence[Sequence[Any]], score: Callable[[Floats], Floats]
) -> list[Recommendation | None]:
    """Each customer's best lever as the service finds it: scored as they are, and with all that can be offered."""
    own = vectors_of(levers, rows)
    tried = lever_candidates(levers, rows, own)
    return tried.best(np.asarray(score(own)), np.asarray(score(tried.vectors)))
