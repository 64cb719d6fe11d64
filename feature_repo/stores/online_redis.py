"""Feast's Redis online store with planned reads.

Configured as ``online_store: {type: …online_redis.PlannedRedisOnlineStore}``. See docs/decisions/0025-online-reads.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal
from weakref import WeakKeyDictionary

from feast import FeatureView, RepoConfig
from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name
from feast.infra.online_stores.redis import RedisClient, RedisOnlineStore, RedisOnlineStoreConfig, RedisType
from feast.protos.feast.types.Value_pb2 import Value
from redis.exceptions import WatchError

from feature_repo.stores.online_read.planned_store import PlannedReadMixin
from feature_repo.stores.online_read.read_plan import ReadPlan
from feature_repo.stores.online_read.redis_connection import Fields, RedisReader, Row
from feature_repo.stores.online_write.push_rows import FeastRows, pushed_rows, tell_kept
from feature_repo.stores.online_write.redis_writer import PushedHashes, stamp_field
from feature_repo.stores.wire.value_decoder import instant_of


class PlannedRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Configuration: that of Feast's Redis store, section ``online_store`` of feature_store.yaml.

    Examples
    --------
    >>> from feature_repo.stores.online_redis import PlannedRedisOnlineStoreConfig
    >>> PlannedRedisOnlineStoreConfig(connection_string="localhost:6379").type
    'feature_repo.stores.online_redis.PlannedRedisOnlineStore'
    """

    type: Literal["feature_repo.stores.online_redis.PlannedRedisOnlineStore"] = (
        "feature_repo.stores.online_redis.PlannedRedisOnlineStore"
    )


class PlannedRedisOnlineStore(PlannedReadMixin, RedisOnlineStore):
    """Feast's Redis store, its data and its API; all views of all entities are read in one round trip.

    Every API writes by the rule of :class:`~feature_repo.stores.online_write.redis_writer.RedisWriter`: no row replaces
    a later one, and a row of the same instant is a correction. So ``skip_dedup`` has no effect. Deletions and
    asynchronous reads are Feast's. Reads from a cluster, Sentinel and the client *glide* are left to Feast.

    Examples
    --------
    Feast makes the store from its configuration; :func:`feature_repo.stores.feature_store.repo_config` writes it where
    ``feast.online_store`` of the settings is ``redis``.

    >>> from feature_repo.stores.feature_store import redis_connection
    >>> from feature_repo.stores.online_redis import PlannedRedisOnlineStoreConfig
    >>> config = PlannedRedisOnlineStoreConfig(connection_string=redis_connection("rediss://cache:6380/1", 250))
    >>> config.connection_string
    'cache:6380,db=1,socket_timeout=0.25,socket_connect_timeout=0.25,retry=null,ssl=true'
    """

    _client_async: Any

    def __init__(self) -> None:
        super().__init__()
        self._reader: RedisReader | None = None
        self._fields: WeakKeyDictionary[ReadPlan, Fields] = WeakKeyDictionary()

    async def close(self) -> None:
        """Close the connections of asynchronous reads, which Feast leaves open; the next read opens others."""
        client: Any = self._client_async
        self._client_async = None
        if client is not None:
            await client.aclose()

    def reads_by_plan(self, config: RepoConfig) -> bool:
        """Return whether the store is one server, accessed through redis-py."""
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

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: FeastRows, progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows, none of them over a later one; the log counts those left out.

        Keys are watched (WATCH) from before their stored timestamps are read until the rows are written (MULTI, EXEC):
        if another writer changes one in that time, the part is read again. In a cluster a transaction is limited to a
        single slot, so there the two steps stay separate.

        Parameters
        ----------
        config, table
            As Feast passes them.
        data
            Rows of (entity key, feature -> value, event timestamp, created timestamp).
        progress
            Called with the number of rows.

        Raises
        ------
        redis.exceptions.RedisError
            If the server can't be used.
        """
        client, kept = self._get_client(config.online_store), 0
        watches = config.online_store.redis_type != RedisType.redis_cluster
        left = _hashes(config, table, data)
        while left:
            with client.pipeline(transaction=watches) as pipe, client.pipeline(transaction=False) as asked:
                if watches:
                    pipe.watch(*left[0].keys)
                    pipe.multi()
                left[0].ask(asked)
                late = left[0].put(pipe, asked.execute(), config.online_store.key_ttl_seconds)
                # Another writer changed a key: the stored timestamps are read and compared again.
                with suppress(WatchError):
                    pipe.execute()
                    kept += late
                    left.pop(0)
        _told(table, kept, data, progress)

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: FeastRows, progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows as :meth:`online_write_batch` does, for the feature server."""
        client, kept = await self._get_client_async(config.online_store), 0
        watches = config.online_store.redis_type != RedisType.redis_cluster
        left = _hashes(config, table, data)
        while left:
            async with client.pipeline(transaction=watches) as pipe, client.pipeline(transaction=False) as asked:
                if watches:
                    await pipe.watch(*left[0].keys)
                    pipe.multi()
                left[0].ask(asked)
                late = left[0].put(pipe, await asked.execute(), config.online_store.key_ttl_seconds)
                with suppress(WatchError):
                    await pipe.execute()
                    kept += late
                    left.pop(0)
        _told(table, kept, data, progress)

    def _get_features_for_entity(
        self, values: Sequence[bytes | None], feature_view: str, requested_features: list[str]
    ) -> tuple[datetime | None, dict[str, Value] | None]:
        """Return (None, None) where nothing is stored, for reads without a plan: Feast gives nulls at time 0."""
        if all(value is None for value in values):
            return None, None
        found: tuple[datetime | None, dict[str, Value] | None] = super()._get_features_for_entity(
            values, feature_view, requested_features
        )
        return found


def _hashes(config: RepoConfig, table: FeatureView, data: FeastRows) -> list[PushedHashes]:
    view = compute_versioned_name(table, config.registry.enable_online_feature_view_versioning)
    return PushedHashes.of(pushed_rows(data, config.entity_key_serialization_version), view, config.project)


def _told(table: FeatureView, kept: int, data: FeastRows, progress: Callable[[int], Any] | None) -> None:
    tell_kept(table.name, kept, len(data))
    if progress:
        progress(len(data))
