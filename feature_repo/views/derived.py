"""Features computed at read time, by the same function offline and online."""

from __future__ import annotations

from typing import Any

from feast import Field
from feast.on_demand_feature_view import on_demand_feature_view

from feature_repo.contract import DERIVED, FEATURES, MILESTONES
from feature_repo.views.billing import customer_billing
from feature_repo.views.build import FEAST_TYPE, declared, on_demand_description, on_demand_tags
from feature_repo.views.contract import customer_contract
from feature_repo.views.services_used import customer_services

_MILESTONES = [feature for feature in FEATURES if feature.view == MILESTONES.name]
_DERIVED = [feature for feature in FEATURES if feature.view == DERIVED.name]


@on_demand_feature_view(
    sources=[customer_contract, customer_services, customer_billing],
    # Feast drops the tags and description of an on-demand field when it reads its registry back, and then finds
    # that the field differs from the service's: what they would say stands in the view's own tags.
    schema=[Field(name=feature.name, dtype=FEAST_TYPE[feature.dtype]) for feature in _DERIVED],
    mode="python",
    description=on_demand_description(DERIVED, _DERIVED),
    owner=DERIVED.owner,
    tags=on_demand_tags(_DERIVED),
)
def customer_derived(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the derived features of the rows in ``inputs`` (name -> list)."""
    # Feast rebuilds this function from its source text, without this module: the import must be inside.
    from feature_repo.transforms import derive

    return derive(inputs)


@on_demand_feature_view(
    sources=[customer_contract],
    schema=[Field(name=feature.name, dtype=FEAST_TYPE[feature.dtype]) for feature in _MILESTONES],
    mode="python",
    description=on_demand_description(MILESTONES, _MILESTONES),
    owner=MILESTONES.owner,
    tags=on_demand_tags(_MILESTONES),
)
def customer_milestones(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the milestones of the rows in ``inputs`` (name -> list)."""
    from feature_repo.transforms import milestones

    return milestones(inputs)


customer_milestones.infer_features = declared
