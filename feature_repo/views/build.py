"""From the contract to Feast's objects: fields with their types, tags and descriptions."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from feast import FeatureView, Field
from feast.types import Bool, Float64, Int64, PrimitiveFeastType, String

from feature_repo.contract import CUSTOMER, FEATURES, TTL_DAYS, DType, Feature, View
from feature_repo.entities import customer
from feature_repo.sources import customer_snapshot

FEAST_TYPE: Final[dict[DType, PrimitiveFeastType]] = {
    "bool": Bool,
    "int64": Int64,
    "float64": Float64,
    "string": String,
}


def field(feature: Feature) -> Field:
    """Return the Feast field of a feature, its meaning in description and tags."""
    tags = {
        "unit": feature.unit or "none",
        "nullable": str(feature.nullable).lower(),
        "pii": "true",  # a value of one named customer is personal data, whatever it says
        "sensitivity": "protected" if feature.protected else "personal",
    }
    if feature.column:
        tags["source_column"] = feature.column
    return Field(name=feature.name, dtype=FEAST_TYPE[feature.dtype], description=feature.description, tags=tags)


def snapshot_view(view: View) -> FeatureView:
    """Return the feature view that reads its columns from the snapshot table."""
    fields = [field(feature) for feature in FEATURES if feature.view == view.name]
    return FeatureView(
        name=view.name,
        entities=[customer],
        # The join key is declared too: without it `feast apply` would read a file to infer its type, and fail
        # on a clone that has no data yet.
        schema=[Field(name=CUSTOMER, dtype=String), *fields],
        source=customer_snapshot,
        ttl=timedelta(days=TTL_DAYS),
        online=view.online,
        description=view.description,
        owner=view.owner,
        tags={"grain": "customer", "pii": "true", "refreshed": "monthly"},
    )
