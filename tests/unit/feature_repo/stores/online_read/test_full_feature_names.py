"""Full feature names of on-demand views where Feast itself reads: several entities, one row at a time, async."""

import asyncio

import pytest

from tests.support.read_plan_repository import NOW, opened, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(redis_server, tmp_path_factory):
    online = {
        "type": "feature_repo.stores.online_redis.PlannedRedisOnlineStore",
        "connection_string": f"127.0.0.1:{redis_server},db=6",
    }
    store = opened(tmp_path_factory.mktemp("full-names"), online=online)
    write(store, "bills", {"customer_id": "a", "amount": 1.5, "paid_on": NOW, "items": ["x"]})
    write(store, "sites", {"site_id": 1, "visits": 2})
    return store


def full(answer):
    return {name: values for name, values in answer.to_dict().items() if "__" in name}


SCALED = {"bills__amount": [1.5], "scaled__scaled": [3.0], "sites__visits": [2]}
ROW = {"customer_id": "a", "site_id": 1, "rate": 2}


def test_several_entities(store):
    refs = ["bills:amount", "scaled:scaled", "sites:visits"]
    assert full(store.get_online_features(refs, [ROW], full_feature_names=True)) == SCALED
    short = store.get_online_features(refs, [ROW]).to_dict()
    assert {name.split("__")[1]: values for name, values in SCALED.items()}.items() <= short.items()


def test_pandas_and_one_row_at_a_time(store):
    rows = [{"customer_id": "a"}]
    assert full(store.get_online_features(["doubled:doubled"], rows, full_feature_names=True)) == {
        "doubled__doubled": [3.0]
    }
    assert full(store.get_online_features(["single:single"], rows, full_feature_names=True)) == {
        "single__single": [1.5]
    }


def test_asynchronous_reads(store):
    async def read():
        found = await store.get_online_features_async(
            ["bills:amount", "scaled:scaled", "sites:visits"], [ROW], full_feature_names=True
        )
        await store._get_provider().online_store._client_async.aclose()
        return found

    assert full(asyncio.run(read())) == SCALED
