"""Feast's Redis online store, read by plan: ``online_store: {type: …online_redis.PlannedRedisOnlineStore}``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from weakref import WeakKeyDictionary

from feast import RepoConfig
from feast.infra.online_stores.helpers import _mmh3
from feast.infra.online_stores.redis import RedisClient, RedisOnlineStore, RedisOnlineStoreConfig, RedisType
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.stores.decoding import instant_of
from feature_repo.stores.planned import PlannedReads
from feature_repo.stores.read_plan import ReadPlan
from feature_repo.stores.redis_reader import Fields, RedisReader, Row
from feature_repo.stores.redis_writer import stamp_field


class PlannedRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Configuration: that of Feast's Redis store."""

    type: Literal["feature_repo.stores.online_redis.PlannedRedisOnlineStore"] = (
        "feature_repo.stores.online_redis.PlannedRedisOnlineStore"
    )


class PlannedRedisOnlineStore(PlannedReads, RedisOnlineStore):
    """Feast's Redis store, its data and its API; all views of all entities are read in one round trip.

    Writes, deletions and asynchronous reads are Feast's. A cluster, Sentinel and the client *glide* are left to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reader: RedisReader | None = None
        self._fields: WeakKeyDictionary[ReadPlan, Fields] = WeakKeyDictionary()

    def reads_by_plan(self, config: RepoConfig) -> bool:
        """Return whether it is one server, asked through redis-py."""
        store = config.online_store
        return (
            super().reads_by_plan(config) and store.redis_type == RedisType.redis and store.client == RedisClient.redis
        )

    def read_rows(self, config: RepoConfig, plan: ReadPlan, keys: Sequence[bytes]) -> list[Row]:
        """Return the stored bytes; raises redis.exceptions.RedisError."""
        reader, fields = self._reader, self._fields.get(plan)
        if fields is None:
            names = [
                field
                for view in plan.views
                for field in (*(_mmh3(f"{view.name}:{each}") for each in view.features), stamp_field(view.name))
            ]
            fields = self._fields[plan] = Fields(names, config.project.encode())
        if reader is None:
            reader = self._reader = RedisReader(self._get_client(config.online_store))
        return reader.read(keys, fields)

    def instant(self, stamp: bytes) -> datetime:
        """Return an event timestamp as Feast's Redis store reads it."""
        return instant_of(stamp)

    def _get_features_for_entity(
        self, values: Sequence[bytes | None], feature_view: str, requested_features: list[str]
    ) -> tuple[datetime | None, dict[str, Value] | None]:
        """Return nothing where nothing is stored, for reads without a plan: Feast makes it nulls at time 0."""
        if all(value is None for value in values):
            return None, None
        found: tuple[datetime | None, dict[str, Value] | None] = super()._get_features_for_entity(
            values, feature_view, requested_features
        )
        return found
