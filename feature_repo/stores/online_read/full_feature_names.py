"""Full names of on-demand features online, which Feast 0.67 drops (feast issue 4479)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from feast import FeatureService
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.transformation.python_transformation import PythonTransformation


class FullNameRegistry:
    """Registry whose on-demand views in Python return both names: ``feature`` and ``view__feature``.

    Feast looks for the full name in the function's result, which has the short one only. Everything else is the wrapped
    registry's.
    """

    def __init__(self, registry: Any, features: FeatureService | list[str]) -> None:
        self._registry = registry
        projections = features.feature_view_projections if isinstance(features, FeatureService) else []
        self._called = {projection.name: projection.name_to_use() for projection in projections}

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the wrapped registry."""
        return getattr(self._registry, name)

    def get_any_feature_view(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Return a view of any kind; a Python on-demand view returns both names."""
        view = self._registry.get_any_feature_view(name, *args, **kwargs)
        if not (
            isinstance(view, OnDemandFeatureView) and isinstance(view.feature_transformation, PythonTransformation)
        ):
            return view
        named = copy.copy(view)
        named.feature_transformation = _both(view.feature_transformation, self._called.get(name, name))
        return named


def _both(function: PythonTransformation, view: str) -> PythonTransformation:
    def answer(inputs: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = function.udf(inputs)
        return {**found, **{f"{view}__{name}": values for name, values in found.items()}}

    made: PythonTransformation = PythonTransformation(
        udf=answer, udf_string=function.udf_string, singleton=function.singleton
    )
    return made
