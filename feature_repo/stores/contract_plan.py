"""Difference between the registry and the feature contract, a line for each feature and service that differs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from configs.settings import Settings
from feature_repo.contract import CUSTOMER, FEATURES, SERVICES_OF, Feature
from feature_repo.definition_hash import contract_hash
from feature_repo.stores.errors import translate_store_errors
from feature_repo.stores.feature_store import open_feature_store

if TYPE_CHECKING:
    from feast import FeatureStore

Properties = Mapping[str, str]
"""Property -> its text, of a feature or of a service."""
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@dataclass(frozen=True)
class DefinitionChange:
    """One difference between the registry and the contract.

    Parameters
    ----------
    kind
        Whether registration adds, removes or changes it.
    what
        "feature" or "service".
    name
        Its name.
    details
        The properties of what is added or removed, or the differences.
    """

    kind: Literal["added", "removed", "changed"]
    what: Literal["feature", "service"]
    name: str
    details: str

    def __str__(self) -> str:
        return f"{_SIGNS[self.kind]} {self.what} {self.name}: {self.details}"


def plan(settings: Settings, services: Collection[str] | None = None) -> list[DefinitionChange]:
    """Return what :func:`feature_repo.stores.registration.apply` would change in the registry, by contract.

    Parameters
    ----------
    services
        The versions of feature services that it would register; None: all of the contract.

    Raises
    ------
    RegistryUnavailableError
        If the registry can't be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from feature_repo.stores.contract_plan import plan
    >>> from feature_repo.stores.registration import apply
    >>> settings = load_settings(home=Path(tempfile.mkdtemp()))
    >>> print(plan(settings)[0])
    + feature partner: bool of customer_contract, Lives with a partner
    >>> _ = apply(settings)
    >>> plan(settings)
    []
    """
    wanted = SERVICES_OF if services is None else services
    with translate_store_errors(settings):
        store = open_feature_store(settings)
        registered = _registered_features(store)
        registered_services = {
            service.name: (
                {feature.name for view in service.feature_view_projections for feature in view.features},
                str(service.tags.get("contract_hash", "")),
            )
            for service in store.list_feature_services()
        }
    return [
        *_feature_changes(registered),
        *_service_changes(registered_services, wanted),
    ]


def _feature_changes(registered: Mapping[str, Properties]) -> Iterator[DefinitionChange]:
    declared = {feature.name: _declared(feature) for feature in FEATURES}
    for name, before in registered.items():
        if name not in declared:
            yield DefinitionChange("removed", "feature", name, _summary(before))
    for name, after in declared.items():
        if name not in registered:
            yield DefinitionChange("added", "feature", name, _summary(after))
            continue
        differing = [
            f"{key} {registered[name][key]!r} -> {value!r}"
            for key, value in after.items()
            if key in registered[name] and registered[name][key] != value
        ]
        if differing:
            yield DefinitionChange("changed", "feature", name, ", ".join(differing))


def _service_changes(
    registered: Mapping[str, tuple[set[str], str]], declared_services: Collection[str]
) -> Iterator[DefinitionChange]:
    for name, (features, _) in registered.items():
        if name not in declared_services:
            yield DefinitionChange("removed", "service", name, _count(len(features)))
    for name in declared_services:
        declared = SERVICES_OF[name]
        if name not in registered:
            yield DefinitionChange("added", "service", name, _count(len(declared)))
            continue
        before, before_hash = registered[name]
        after = set(declared)
        differing = [
            *(f"+{each}" for each in declared if each not in before),
            *(f"-{each}" for each in sorted(before - after)),
        ]
        if before_hash != contract_hash(name):
            differing.append(f"contract {before_hash[:12]} -> {contract_hash(name)[:12]}")
        if differing:
            yield DefinitionChange("changed", "service", name, ", ".join(differing))


def _count(features: int) -> str:
    return f"{features} feature{'s' if features != 1 else ''}"


def _summary(properties: Properties) -> str:
    return f"{properties['type']} of {properties['view']}, {properties['description']}"


def _declared(feature: Feature) -> dict[str, str]:
    from feature_repo.views.build import FEAST_TYPE

    properties = {
        "view": feature.view,
        "type": str(FEAST_TYPE[feature.dtype]).lower(),
        "description": feature.description,
        "unit": feature.unit or "none",
    }
    if not feature.derived:
        properties |= {
            "nullable": str(feature.nullable).lower(),
            "sensitivity": "protected" if feature.protected else "personal",
            "source_column": feature.column,
        }
    return properties


def _registered_features(store: FeatureStore) -> dict[str, Properties]:
    found: dict[str, Properties] = {}
    for view in store.list_feature_views():
        for each in view.features:
            if each.name != CUSTOMER:
                tags = {
                    key: each.tags[key]
                    for key in ("unit", "nullable", "sensitivity", "source_column")
                    if key in each.tags
                }
                found[each.name] = {**_field(view, each), "description": each.description, **tags}
    for view in store.list_on_demand_feature_views():
        for each in view.features:
            # The view's tag holds what Feast drops of an on-demand field: "meaning [unit]".
            meaning, _, unit = view.tags.get(each.name, "").rpartition(" [")
            unit = unit.removesuffix("]")
            found[each.name] = {
                **_field(view, each),
                "description": meaning,
                "unit": "none" if unit == "no unit" else unit,
            }
    return found


def _field(view: Any, field: Any) -> dict[str, str]:
    return {"view": view.name, "type": str(field.dtype).lower()}
