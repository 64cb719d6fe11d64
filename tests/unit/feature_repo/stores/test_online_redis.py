"""Which Redis is read by plan, and that what is not there is not found, by plan or not."""

from __future__ import annotations

import asyncio

import pytest
from feast.infra.online_stores.redis import RedisClient, RedisOnlineStore, RedisType
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from feature_repo.stores.online_read.response import PlannedResponse
from feature_repo.stores.online_redis import PlannedRedisOnlineStore, PlannedRedisOnlineStoreConfig
from tests.support.read_plan_repository import NOW, opened, write

TYPE = "feature_repo.stores.online_redis.PlannedRedisOnlineStore"


@pytest.fixture(scope="module")
def store(redis_server, tmp_path_factory):
    online = {"type": TYPE, "connection_string": f"127.0.0.1:{redis_server},db=13"}
    store = opened(tmp_path_factory.mktemp("redis-plans"), online=online)
    write(store, "bills", {"customer_id": "a", "amount": 1.5, "paid_on": NOW, "items": ["x"]})
    write(store, "visits", {"customer_id": "a", "site_id": 3, "seen": 4})
    return store


def test_the_store_is_feasts_with_another_read_side(store):
    online = store._get_provider().online_store
    assert isinstance(online, PlannedRedisOnlineStore)
    assert isinstance(online, RedisOnlineStore)
    assert PlannedRedisOnlineStoreConfig().type == TYPE


@pytest.mark.parametrize(
    ("changes", "by_plan"),
    [
        ({}, True),
        ({"redis_type": RedisType.redis_cluster}, False),
        ({"redis_type": RedisType.redis_sentinel}, False),
        ({"client": RedisClient.glide}, False),
    ],
    ids=str,
)
def test_one_server_through_redis_py_is_read_by_plan(store, changes, by_plan):
    config = store.config.model_copy()
    config._online_store = store.config.online_store.model_copy(update=changes)
    assert store._get_provider().online_store.reads_by_plan(config) is by_plan


def test_an_older_spelling_of_keys_is_left_to_feast(store):
    older = store.config.model_copy(update={"entity_key_serialization_version": 2})
    assert not store._get_provider().online_store.reads_by_plan(older)


@pytest.mark.parametrize(
    ("refs", "rows", "planned"),
    [
        (["bills:amount"], [{"customer_id": "a"}, {"customer_id": "nobody"}], True),
        (["visits:seen"], [{"customer_id": "a", "site_id": 3}, {"customer_id": "a", "site_id": 4}], False),
    ],
    ids=["by plan", "through Feast"],
)
def test_what_is_not_there_is_not_found(store, refs, rows, planned):
    answer = store.get_online_features(refs, rows)
    assert isinstance(answer, PlannedResponse) is planned
    assert answer.proto.results[-1].statuses == [FieldStatus.PRESENT, FieldStatus.NOT_FOUND]


def test_asynchronous_reads_are_feasts(store):
    async def read():
        answer = await store.get_online_features_async(["bills:amount"], [{"customer_id": "a"}, {"customer_id": "b"}])
        await store._get_provider().online_store._client_async.aclose()
        return answer

    answer = asyncio.run(read())
    assert not isinstance(answer, PlannedResponse)
    assert answer.to_dict()["amount"] == [1.5, None]
    assert answer.proto.results[-1].statuses == [FieldStatus.PRESENT, FieldStatus.NOT_FOUND]
