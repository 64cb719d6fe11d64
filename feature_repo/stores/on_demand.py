"""On-demand views over past rows, each given only the columns that it declares."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from feast.on_demand_feature_view import OnDemandFeatureView


class NarrowView:
    """An on-demand view as Feast's retrieval job sees it; the same but for the columns that its function is given.

    Feast turns every column of the answer into Python lists for each view. A view that reads a column which is not
    one of its sources' gets them all, as in Feast.
    """

    def __init__(self, view: OnDemandFeatureView) -> None:
        self._view = view

    def __getattr__(self, name: str) -> Any:
        """Return what the view itself says."""
        return getattr(self._view, name)

    def transform_arrow(self, table: pa.Table, full_feature_names: bool = False) -> pa.Table:  # noqa: FBT001, FBT002 - Feast's signature
        """Return the view's own columns, n rows."""
        wanted = declared_columns(self._view)
        columns = [name for name in table.column_names if name in wanted]
        try:
            return self._view.transform_arrow(table.select(columns) if columns else table, full_feature_names)
        except KeyError:  # the function reads more than it declares
            return self._view.transform_arrow(table, full_feature_names)


def declared_columns(view: OnDemandFeatureView) -> set[str]:
    """Return what a view's sources may be called in an answer: request data, features, features with their view."""
    names = set(view.get_request_data_schema())
    for projection in view.source_feature_view_projections.values():
        for feature in projection.features:
            names |= {feature.name, f"{projection.name}__{feature.name}"}
    return names
