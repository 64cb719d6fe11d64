"""Metadata catalogue of the registered objects, in two formats that another store can import."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.settings import Settings
from feature_repo.contract import BY_NAME, CUSTOMER
from feature_repo.files.atomic_writes import storage_errors, write_file
from feature_repo.stores.errors import NothingRegisteredError, translate_store_errors
from feature_repo.stores.feature_store import open_feature_store

if TYPE_CHECKING:
    from feast import FeatureStore


def catalogue(store: FeatureStore) -> dict[str, Any]:
    """Return entities, feature views and feature services as registered in Feast, not as in the code.

    Each feature has name, type, description, owner, source (table and column, or the function that computes it), unit,
    nullability, sensitivity, tags and its consumers (feature services).
    """
    services = {service.name: service for service in store.list_feature_services()}
    consumers: dict[str, list[str]] = {}
    for name, service in services.items():
        for projection in service.feature_view_projections:
            for feature in projection.features:
                consumers.setdefault(f"{projection.name}:{feature.name}", []).append(name)
    views = [_view(view, consumers) for view in (*store.list_feature_views(), *store.list_on_demand_feature_views())]
    return {
        "project": store.project,
        "entities": [
            {
                "name": e.name,
                "join_key": e.join_key,
                "description": e.description,
                "owner": e.owner,
                "tags": _plain(e.tags),
            }
            for e in store.list_entities()
            if e.name != "__dummy"
        ],
        "feature_views": sorted(views, key=lambda view: str(view["name"])),
        "feature_services": [
            {
                "name": service.name,
                "description": service.description,
                "owner": service.owner,
                "tags": _plain(service.tags),
                "features": [f"{p.name}:{f.name}" for p in service.feature_view_projections for f in p.features],
            }
            for service in sorted(services.values(), key=lambda each: str(each.name))
        ],
    }


def _view(view: Any, consumers: dict[str, list[str]]) -> dict[str, Any]:
    source = getattr(view, "batch_source", None)
    return {
        "name": view.name,
        "kind": "stored" if source else "on demand",
        "description": view.description,
        "owner": view.owner,
        "tags": _plain(view.tags),
        "ttl_days": view.ttl.days if source else None,
        "online": bool(view.online) if source else True,
        "source": {"table": source.name, "path": source.path} if source else {"computed_by": _functions(view)},
        "features": [
            _feature(feature, source, sorted(consumers.get(f"{view.name}:{feature.name}", [])))
            for feature in view.features
            if feature.name != CUSTOMER
        ],
    }


def _functions(view: Any) -> str:
    """Return the functions that a view on demand calls, "module.name": those that its registered code imports."""
    imported = [
        node for node in ast.walk(ast.parse(view.feature_transformation.udf_string)) if isinstance(node, ast.ImportFrom)
    ]
    return ", ".join(f"{node.module}.{each.name}" for node in imported for each in node.names) or str(view.name)


def _feature(feature: Any, source: Any, consumers: list[str]) -> dict[str, Any]:
    # The registry returns an on-demand field without its description and tags: the contract has them.
    declared = BY_NAME[feature.name]
    return {
        "name": feature.name,
        "type": str(feature.dtype).lower(),
        "definition": declared.description,
        "unit": declared.unit or None,
        "nullable": declared.nullable,
        "categories": list(declared.categories) or None,
        "sensitivity": "protected" if declared.protected else "personal",
        "source_column": f"{source.name}.{declared.column}" if source else None,
        "tags": _plain(feature.tags),
        "consumers": consumers,
    }


def _plain(tags: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in sorted(dict(tags or {}).items())}


def write_catalogue(settings: Settings, folder: Path) -> tuple[Path, Path]:
    """Write features.yaml and features.json into ``folder``; return both paths."""
    import yaml

    with translate_store_errors(settings):
        content = catalogue(open_feature_store(settings))
    if not content["feature_views"]:
        raise NothingRegisteredError("no feature view is registered", "run: churn apply")
    as_yaml, as_json = folder / "features.yaml", folder / "features.json"
    with storage_errors():
        write_file(as_yaml, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
        write_file(as_json, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return as_yaml, as_json
