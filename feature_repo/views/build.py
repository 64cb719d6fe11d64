"""From the contract to Feast's objects: fields with their types, tags and descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from feast import FeatureView, Field, FileSource
from feast.types import Array, Bool, FeastType, Float64, Int64, String

from feature_repo.contract import CUSTOMER, FEATURES, TTL_DAYS, DType, Feature, View
from feature_repo.entities import customer

FEAST_TYPE: Final[dict[DType, FeastType]] = {
    "bool": Bool,
    "int64": Int64,
    "float64": Float64,
    "string": String,
    "int64_list": Array(Int64),
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


def stored_view(view: View, source: FileSource) -> FeatureView:
    """Return the feature view that reads its columns from an offline table."""
    fields = [field(feature) for feature in FEATURES if feature.view == view.name]
    return FeatureView(
        name=view.name,
        entities=[customer],
        # The join key is declared too: without it `feast apply` would read a file to infer its type, and fail
        # on a clone that has no data yet.
        schema=[Field(name=CUSTOMER, dtype=String), *fields],
        source=source,
        ttl=timedelta(days=TTL_DAYS),
        online=view.online,
        description=view.description,
        owner=view.owner,
        tags={"grain": "customer", "pii": "true", "refreshed": source.tags["refreshed"]},
    )


def on_demand_tags(features: Sequence[Feature]) -> dict[str, str]:
    """Return the tags of an on-demand view, with what its fields can't carry: meaning and unit of each feature."""
    return {
        "grain": "customer",
        "pii": "true",
        "sensitivity": "personal",
        "computed": "on demand",
        **{feature.name: f"{feature.description} [{feature.unit or 'no unit'}]" for feature in features},
    }


def on_demand_description(view: View, features: Sequence[Feature]) -> str:
    """Return an on-demand view's description, with the fields that it gives.

    Feast compares such views by description and function, not by their fields: without this a field added to one
    that is registered would never arrive.
    """
    return f"{view.description} Gives {', '.join(f'{feature.name} ({feature.dtype})' for feature in features)}."


def declared() -> None:
    """Infer nothing, in the place of an on-demand view's ``infer_features``: its schema is declared.

    Feast would run the function on one made-up row, and refuse the nulls that it rightly gives.
    """
