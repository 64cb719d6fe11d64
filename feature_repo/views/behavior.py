"""Behaviour: daily tiles as the deliveries of events left them, and the windows summed from them at read time."""

from __future__ import annotations

from typing import Any

from feast import Field, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Int64

from feature_repo.contract import BEHAVIOR, FEATURES, OBSERVED_AT_US, PAYMENTS, SUPPORT, USAGE
from feature_repo.sources import customer_activity
from feature_repo.views.build import FEAST_TYPE, declared, on_demand_description, on_demand_tags, stored_view

customer_usage = stored_view(USAGE, customer_activity)
customer_support = stored_view(SUPPORT, customer_activity)
customer_payments = stored_view(PAYMENTS, customer_activity)

observation = RequestSource(
    name="observation",
    schema=[Field(name=OBSERVED_AT_US, dtype=Int64)],
    description="When the customer is observed, UTC microseconds since 1970: the end of every window",
)

_WINDOWS = [feature for feature in FEATURES if feature.view == BEHAVIOR.name]


@on_demand_feature_view(
    sources=[customer_usage, customer_support, customer_payments, observation],
    # As in customer_derived: what the fields would say stands in the view's tags.
    schema=[Field(name=feature.name, dtype=FEAST_TYPE[feature.dtype]) for feature in _WINDOWS],
    mode="python",
    description=on_demand_description(BEHAVIOR, _WINDOWS),
    owner=BEHAVIOR.owner,
    tags=on_demand_tags(_WINDOWS),
)
def customer_behavior(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the windows at ``observed_at_us`` of the rows in ``inputs`` (name -> list)."""
    # Feast rebuilds this function from its source text, without this module: the import must be inside.
    from feature_repo.transforms import windows

    return windows(inputs)


customer_behavior.infer_features = declared
