"""Shared read side of this project's online stores: Feast's API, served by a plan.

See docs/decisions/0025-online-reads.md.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from feast import FeatureService, RepoConfig
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.infra.registry.caching_registry import CachingRegistry
from feast.online_response import OnlineResponse

from feature_repo.stores.online_read.full_feature_names import FullNameRegistry
from feature_repo.stores.online_read.read_plan import ReadPlan, build_read_plan
from feature_repo.stores.online_read.response import PlannedResponse, ReadResult
from feature_repo.stores.wire.memo import BoundedCache
from feature_repo.stores.wire.value_decoder import decode

_KEY_VERSION: Final = 3
_PLANS_MAX: Final = 256


class PlannedReadMixin(OnlineStore):
    """Mix-in that reads by a compiled plan; a subclass names it before Feast's own store class.

    Keys, bytes and values are Feast's own. The response differs in its statuses, which are those that Feast documents:

    - NOT_FOUND where a view holds nothing for an entity (Feast's Redis store: PRESENT with event time 0);
    - OUTSIDE_MAX_AGE where the view's values are older than its time to live (Feast: PRESENT). The values are returned
      nevertheless, as in Feast;
    - NULL_VALUE where the value is null (Feast: PRESENT, or NOT_FOUND for a feature that was added later).

    With full feature names the features of on-demand views are included, as in historical results (Feast drops them).

    Reads without a plan are left to Feast: reads of several entities or none, join keys that are neither string nor
    int64, pinned versions of views and requests for them, precomputed vectors, on-demand views that are not Python
    functions of whole columns, entity values that Feast would convert, registries without a cache, asynchronous reads,
    and Feast's own metrics of reads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._plans: dict[Any, tuple[Any, ReadPlan | None]] = {}
        self._decoded = BoundedCache(decode)
        self._instants = BoundedCache(self.instant)

    @abstractmethod
    def read_rows(self, config: RepoConfig, plan: ReadPlan, keys: Sequence[bytes]) -> Sequence[Sequence[Any]]:
        """Return ``plan.width`` stored values for each of the distinct keys, in their order.

        A value is serialized, a timestamp in the store's own form, None where nothing is stored. Raises the errors of
        the store's client.
        """

    @abstractmethod
    def instant(self, stamp: Any) -> datetime:
        """Return a stored event timestamp as a UTC datetime."""

    def reads_by_plan(self, config: RepoConfig) -> bool:
        """Return whether the store's configuration allows planned reads."""
        return bool(config.entity_key_serialization_version == _KEY_VERSION)

    def plan_for(
        self,
        config: RepoConfig,
        registry: BaseRegistry,
        project: str,
        features: FeatureService | list[str],
        *,
        full_feature_names: bool = False,
    ) -> ReadPlan | None:
        """Return the plan for these features, or None if Feast has to read them.

        It is made once per state of the registry.
        """
        if not self.reads_by_plan(config) or not isinstance(registry, CachingRegistry):
            return None
        registry._refresh_cached_registry_if_necessary()  # noqa: SLF001 - what each of Feast's cached reads does first
        state = registry.cached_registry_proto
        wanted = (
            features.name if isinstance(features, FeatureService) else tuple(features),
            project,
            full_feature_names,
        )
        known, plan = self._plans.get(wanted, (None, None))
        if known is state:
            return plan
        # Each refresh replaces the cache, mostly by equal content; comparing is cheaper than planning.
        if known is None or known != state:
            plan = build_read_plan(
                registry,
                project,
                features,
                full_feature_names=full_feature_names,
                versioned=config.registry.enable_online_feature_view_versioning,
                decoded=self._decoded,
            )
        if len(self._plans) >= _PLANS_MAX:
            self._plans.clear()
        self._plans[wanted] = (state, plan)
        return plan

    def get_online_features(
        self,
        config: RepoConfig,
        features: FeatureService | list[str],
        entity_rows: list[dict[str, Any]] | Mapping[str, Any],
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,  # noqa: FBT001, FBT002 - Feast's signature
        include_feature_view_version_metadata: bool = False,  # noqa: FBT001, FBT002
    ) -> OnlineResponse:
        """Return Feast's response; the class names the differences and what is left to Feast."""
        plan = given = None
        if not (include_feature_view_version_metadata or getattr(features, "precompute_online", False) or _measured()):
            plan = self.plan_for(config, registry, project, features, full_feature_names=full_feature_names)
        if plan is not None:
            given = plan.parse_entity_rows(entity_rows)
        if plan is None or given is None:
            return super().get_online_features(
                config,
                features,
                _counted(entity_rows),
                _named(registry, features, full_feature_names=full_feature_names),
                project,
                full_feature_names,
                include_feature_view_version_metadata,
            )
        columns = self.read_columns(config, plan, given[plan.join_key])
        computed: dict[str, list[Any]] = {}
        if plan.computed:
            stored = {column.name: column.of(columns) for column in plan.stored}
            for view in plan.computed:
                computed |= view.of(given | stored)
        found = ReadResult(plan, given[plan.join_key], columns, computed, datetime.now(UTC))
        return PlannedResponse(found, self._instants)

    async def get_online_features_async(
        self,
        config: RepoConfig,
        features: FeatureService | list[str],
        entity_rows: list[dict[str, Any]] | Mapping[str, Any],
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,  # noqa: FBT001, FBT002 - Feast's signature
        include_feature_view_version_metadata: bool = False,  # noqa: FBT001, FBT002
    ) -> OnlineResponse:
        """Return Feast's response, with on-demand views by their full names."""
        return await super().get_online_features_async(
            config,
            features,
            _counted(entity_rows),
            _named(registry, features, full_feature_names=full_feature_names),
            project,
            full_feature_names,
            include_feature_view_version_metadata,
        )

    def read_columns(self, config: RepoConfig, plan: ReadPlan, entities: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Return ``plan.width`` columns of stored values for n entities.

        There must be at least one; an entity may occur twice.
        """
        keys = list(map(plan.serialize_key, entities))
        distinct = dict.fromkeys(keys)
        if len(distinct) == len(keys):
            rows = self.read_rows(config, plan, keys)
        else:
            unique = list(distinct)
            found = dict(zip(unique, self.read_rows(config, plan, unique), strict=True))
            rows = [found[key] for key in keys]
        return list(zip(*rows, strict=True))


def _named(registry: BaseRegistry, features: FeatureService | list[str], *, full_feature_names: bool) -> Any:
    return FullNameRegistry(registry, features) if full_feature_names else registry


def _counted(entity_rows: Any) -> Any:
    """Return rows; rows without any value, for views without entities, get a column that Feast ignores."""
    if isinstance(entity_rows, list) and entity_rows and not any(entity_rows):
        return {"": list(range(len(entity_rows)))}
    return entity_rows


def _measured() -> bool:
    """Return whether this process counts reads for Feast's own metrics."""
    metrics = sys.modules.get("feast.metrics")
    return metrics is not None and bool(metrics._config.online_features)  # noqa: SLF001 - as Feast's stores ask it
