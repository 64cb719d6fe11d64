"""Patches for faults of Feast 0.67 that a line or two can work around.

The offline store calls :func:`install_patches` when it is imported: `feast …`, `churn feast …` and the API are all
patched. A patch has an effect only where Feast would fail. ``docs/pitfalls.md`` names these faults and those that no
patch can fix. See docs/decisions/0037-faults-of-feast.md.
"""

from __future__ import annotations

import inspect
import math
import time
from decimal import Decimal
from functools import wraps
from numbers import Real
from typing import Any, Final
from weakref import finalize

import numpy as np
import pandas as pd
from feast import FeatureStore
from feast.data_source import PushMode
from feast.errors import PushSourceNotFoundException
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteTable
from feast.infra.passthrough_provider import PassthroughProvider
from feast.infra.registry.base_registry import BaseRegistry
from feast.infra.registry.sql import SqlRegistry, feature_view_version_history
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView
from feast.types import Int32, Int64
from sqlalchemy import delete

from feature_repo.stores.feast_patches.refusals import install_refusals
from feature_repo.stores.online_write.push_rows import OnlineRowsError

_ROWS_TO_WRITE: Final = PassthroughProvider._prep_rows_to_write_for_ingestion  # noqa: SLF001
_SERVE_REGISTRY: Final = FeatureStore.serve_registry
_PUSH: Final = FeatureStore.push
_PUSH_ASYNC: Final = FeatureStore.push_async
_PUSHED_VIEWS: Final = FeatureStore._fvs_for_push_source_or_raise  # noqa: SLF001 - here and below: Feast has no public name
_SORTED_DICT: Final = BaseRegistry._message_to_sorted_dict  # noqa: SLF001
_CONNECT: Final = SqliteOnlineStore._get_conn  # noqa: SLF001
_MAKE_TABLE: Final = SqliteTable.__init__
_MAKE_REGISTRY: Final = SqlRegistry.__init__
_SAVE_VERSION: Final = SqlRegistry._save_version_snapshot  # noqa: SLF001

_LOOKED_S: Final = 5.0
"""Minimum time, seconds, between two reads of the registry for unknown push sources."""
_LOOKED: Final = "_churn_looked_for_push_source_at"


def install_patches() -> None:
    """Replace Feast's functions by the patched ones; a second call changes nothing."""
    FeatureStore.serve_registry = _serve_registry
    FeatureStore.push, FeatureStore.push_async = _push, _push_async
    FeatureStore._fvs_for_push_source_or_raise = _pushed_views  # noqa: SLF001
    BaseRegistry._message_to_sorted_dict = staticmethod(_sorted_dict)  # noqa: SLF001
    SqliteOnlineStore._get_conn = _connect  # noqa: SLF001
    SqliteTable.__init__ = _make_table
    SqlRegistry.__init__ = _make_registry
    PassthroughProvider._prep_rows_to_write_for_ingestion = staticmethod(_rows_to_write)  # noqa: SLF001
    SqlRegistry._save_version_snapshot = _save_version  # noqa: SLF001
    install_refusals()


@wraps(_SERVE_REGISTRY)
def _serve_registry(store: FeatureStore, *args: Any, **kwargs: Any) -> None:
    """Serve the registry; its REST application gets no arguments that FastAPI no longer accepts."""
    bound = inspect.signature(_SERVE_REGISTRY).bind(store, *args, **kwargs)
    if bound.arguments.get("rest_api"):
        from fastapi import FastAPI
        from feast.api.registry.rest import rest_registry_server

        taken = inspect.signature(FastAPI).parameters

        def application(**settings: Any) -> FastAPI:
            return FastAPI(**{name: value for name, value in settings.items() if name in taken})

        rest_registry_server.FastAPI = application
    _SERVE_REGISTRY(store, *args, **kwargs)


@wraps(_PUSH)
def _push(store: FeatureStore, *args: Any, **kwargs: Any) -> None:
    """Push rows; if they do not fit one of the views, none is written. Feast writes view by view."""
    _check_push(_PUSH, store, *args, **kwargs)
    _PUSH(store, *args, **kwargs)


@wraps(_PUSH_ASYNC)
async def _push_async(store: FeatureStore, *args: Any, **kwargs: Any) -> None:
    """Push rows as :func:`_push` does, asynchronously."""
    _check_push(_PUSH_ASYNC, store, *args, **kwargs)
    await _PUSH_ASYNC(store, *args, **kwargs)


def _check_push(push: Any, *args: Any, **kwargs: Any) -> None:
    bound = inspect.signature(push).bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    if given["to"] != PushMode.OFFLINE:  # the offline store checks its own rows
        for view in _pushed_views(given["self"], given["push_source_name"], given["allow_registry_cache"]):
            _check_rows(view, given["df"])


def _rows_to_write(feature_view: Any, df: pd.DataFrame, field_mapping: dict[str, str] | None = None) -> Any:
    """Check the rows, then return what Feast writes online."""
    _check_rows(feature_view, df, field_mapping)
    return _ROWS_TO_WRITE(feature_view, df, field_mapping)


def _check_rows(feature_view: Any, df: pd.DataFrame, field_mapping: dict[str, str] | None = None) -> None:
    """Raise OnlineRowsError for a key that is null, and for a fraction where a whole number belongs.

    Feast cuts fractions off: a row of the key 2.5 would replace that of the key 2. The columns of ``df`` are the
    source's, which Feast renames by the source's mapping; ``field_mapping`` is that of an on-demand view.
    """
    source = getattr(feature_view, "batch_source", None)
    mapping: dict[Any, Any] = (field_mapping if source is None else source.field_mapping) or {}
    columns = {mapping.get(name, name): df[name] for name in df}
    keys = getattr(feature_view, "entity_columns", ())
    if empty := [key.name for key in keys if key.name in columns and columns[key.name].isna().any()]:
        raise OnlineRowsError(f"nulls in {', '.join(empty)}", "give each row its key; nothing was written")
    for field in (*keys, *feature_view.features):
        if field.dtype in (Int32, Int64) and field.name in columns and _has_fraction(columns[field.name]):
            raise OnlineRowsError(f"{field.name} does not fit {field.dtype}", "give whole numbers; nothing was written")


def _has_fraction(column: pd.Series) -> bool:
    """Return whether a value is no whole number; nulls and values that are no numbers are ignored."""
    if column.dtype.kind in "iub":
        return False
    if column.dtype.kind == "f":
        values = column.to_numpy(np.float64, na_value=np.nan)
        return bool((~np.isnan(values) & (~np.isfinite(values) | (np.floor(values) != values))).any())
    return any(_is_fraction(value) for value in column if not isinstance(value, int))


def _is_fraction(value: Any) -> bool:
    if not isinstance(value, Real | Decimal) or value != value:  # noqa: PLR0124 - NaN is a null
        return False
    return not math.isfinite(value) or math.floor(value) != value


def _pushed_views(store: FeatureStore, push_source_name: str, allow_cache: bool) -> Any:  # noqa: FBT001 - Feast's
    """Return the views of a push source; one that the cached registry lacks is looked up in the registry.

    The cache of a server that started while `feast apply` ran is incomplete, and a refresh that failed, also after an
    apply, is logged at debug level only. The look-up happens once in :data:`_LOOKED_S`: otherwise wrong names would
    cause a read of the whole registry per push.
    """
    try:
        return _PUSHED_VIEWS(store, push_source_name, allow_cache)
    except PushSourceNotFoundException:
        now = time.monotonic()
        if not allow_cache or now - getattr(store, _LOOKED, -math.inf) < _LOOKED_S:
            raise
        setattr(store, _LOOKED, now)
        store.refresh_registry()
        return _PUSHED_VIEWS(store, push_source_name, allow_cache)


def _sorted_dict(message: Any) -> dict[str, Any]:
    """Return an object for `feast registry-dump`, which expects keys of other kinds in Python views."""
    found: dict[str, Any] = _SORTED_DICT(message)
    if isinstance(message, OnDemandFeatureView):
        transformation = found["spec"].setdefault("featureTransformation", {})
        for kind in ("userDefinedFunction", "substraitPlan"):
            transformation.setdefault(kind, {})
    return found


@wraps(_CONNECT)
def _connect(store: SqliteOnlineStore, *args: Any, **kwargs: Any) -> Any:
    """Return a SQLite online store's connection, closed with the store; Feast closes it in teardown only."""
    before = store._conn  # noqa: SLF001
    connection = _CONNECT(store, *args, **kwargs)
    if connection is not before:
        finalize(store, connection.close)
    return connection


@wraps(_MAKE_TABLE)
def _make_table(table: SqliteTable, *args: Any, **kwargs: Any) -> None:
    """Create a SQLite infrastructure object; the connection that it opens is closed with it."""
    _MAKE_TABLE(table, *args, **kwargs)
    finalize(table, table.conn.close)


@wraps(_MAKE_REGISTRY)
def _make_registry(registry: SqlRegistry, *args: Any, **kwargs: Any) -> None:
    """Open a registry whose connections are closed when it is dropped; Feast leaves them to the collector."""
    _MAKE_REGISTRY(registry, *args, **kwargs)
    for engine in {id(each): each for each in (registry.write_engine, registry.read_engine)}.values():
        finalize(registry, engine.dispose)


def _save_version(
    registry: SqlRegistry, name: str, project: str, version_number: int, *args: Any, **kwargs: Any
) -> Any:
    """Save a version of a view; a first one replaces what `feast teardown` left of a view of that name."""
    if version_number == 0:
        history = feature_view_version_history.c
        left = (history.feature_view_name == name, history.project_id == project, history.version_number == 0)
        with registry.write_engine.begin() as connection:
            connection.execute(delete(feature_view_version_history).where(*left))
    return _SAVE_VERSION(registry, name, project, version_number, *args, **kwargs)
