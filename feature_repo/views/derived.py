"""Features computed at read time, by the same function offline and online."""

from __future__ import annotations

from typing import Any

from feast import Field
from feast.on_demand_feature_view import on_demand_feature_view

from feature_repo.contract import DERIVED, FEATURES
from feature_repo.views.billing import customer_billing
from feature_repo.views.build import FEAST_TYPE
from feature_repo.views.contract import customer_contract
from feature_repo.views.services_used import customer_services

_DERIVED = [feature for feature in FEATURES if feature.derived]


@on_demand_feature_view(
    sources=[customer_contract, customer_services, customer_billing],
    # Feast drops the tags and description of an on-demand field when it reads its registry back, and then finds
    # that the field differs from the service's: what they would say stands in the view's own tags.
    schema=[Field(name=feature.name, dtype=FEAST_TYPE[feature.dtype]) for feature in _DERIVED],
    mode="python",
    description=DERIVED.description,
    owner=DERIVED.owner,
    tags={
        "grain": "customer",
        "pii": "true",
        "sensitivity": "personal",
        "computed": "on demand",
        **{feature.name: f"{feature.description} [{feature.unit or 'no unit'}]" for feature in _DERIVED},
    },
)
def customer_derived(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the derived features of the rows in ``inputs`` (name -> list)."""
    # Feast rebuilds this function from its source text, without this module: the import must be inside.
    from feature_repo.transforms import derive

    return derive(inputs)
