"""Rows of the fault catalogue that the online read answers for, each against a real Redis of its own."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest
from pydantic import SecretStr
from redis import Redis

from feature_repo.contract import BEHAVIOR_SERVICE, CORE_SERVICE
from feature_repo.stores.errors import StoreUnavailableError
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.freshness import FRESHNESS_FILE, parse_freshness
from feature_repo.stores.materialize import materialize
from feature_repo.stores.online_features import OnlineFeatureReader
from feature_repo.stores.registration import apply
from tests.support.online_customers import FRESH, NOW, SPECIAL, STALE, build
from tests.support.redis_server import RedisProcess

TIMEOUT_MS = 300


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RedisProcess(tmp_path_factory.mktemp("redis")) as redis:
        yield redis.process, redis.port


@pytest.fixture(scope="module")
def served(server, tmp_path_factory):
    """A home whose online store is that Redis, materialised; and its customers but those that are special."""
    home = build(tmp_path_factory.mktemp("faults") / "home")
    feast = {
        "online_store": "redis",
        "redis_url": SecretStr(f"redis://127.0.0.1:{server[1]}/0"),
        "redis_timeout_ms": TIMEOUT_MS,
    }
    settings = home.settings.model_copy(update={"feast": home.settings.feast.model_copy(update=feast)})
    apply(settings)
    materialize(settings, NOW)
    return settings, [each for each in home.ids if each not in SPECIAL]


def statuses(reader, ids, now=NOW):
    return {row.status for row in reader.read(ids, now)}


def test_19_redis_that_hangs_costs_the_time_out_and_is_read_again_after(served, server):
    settings, ids = served
    process, _ = server
    reader = OnlineFeatureReader(open_feature_store(settings), CORE_SERVICE)
    assert statuses(reader, ids) == {"present"}
    process.send_signal(signal.SIGSTOP)
    try:
        # The first time on the connection that is at hand, the second on a new one, which answers as little.
        for _ in range(2):
            with pytest.raises(StoreUnavailableError) as refused:
                reader.read_batch(ids[:1], NOW)
            assert (refused.value.http_status, refused.value.transient) == (503, True)
            assert "Timeout" in type(refused.value.__cause__).__name__
    finally:
        process.send_signal(signal.SIGCONT)
    # What the server had been asked meanwhile answers nobody else.
    assert [row.customer_id for row in reader.read(ids, NOW)] == ids
    assert statuses(reader, ids) == {"present"}


def test_20_redis_that_comes_back_empty_knows_nobody_until_it_is_materialised(served, server):
    settings, ids = served
    readers = [
        OnlineFeatureReader(open_feature_store(settings), service) for service in (CORE_SERVICE, BEHAVIOR_SERVICE)
    ]
    before = [repr(reader.read(ids, NOW)) for reader in readers]
    with Redis(port=server[1]) as client:
        client.flushall()
    for reader in readers:
        assert statuses(reader, ids) == {"unknown"}
        assert {row.as_of for row in reader.read(ids, NOW)} == {None}
    materialize(settings, NOW)
    assert [repr(reader.read(ids, NOW)) for reader in readers] == before


def test_21_old_values_are_stale_and_beyond_the_limit_expired(served):
    settings, ids = served
    reader = OnlineFeatureReader(open_feature_store(settings), CORE_SERVICE)
    stale_at, expired_at = FRESH + timedelta(hours=1488), FRESH + timedelta(hours=2208)
    tick = timedelta(microseconds=1)
    for now, status, quality in [
        (stale_at, "present", "full"),
        (stale_at + tick, "present", "stale"),
        (expired_at, "present", "stale"),
        (expired_at + tick, "expired", "partial"),
    ]:
        rows = reader.read(ids, now)
        assert {(row.status, row.quality) for row in rows} == {(status, quality)}, now
    (row,) = reader.read(["STALE-1"], NOW)
    assert (row.status, row.as_of) == ("present", STALE)
    assert row.stale == ("customer_contract", "customer_services", "customer_billing")


def test_21_a_stricter_policy_refuses_earlier_and_changes_no_value(served):
    settings, ids = served
    text = FRESHNESS_FILE.read_text("utf-8").replace("= 1488", "= 24")
    strict = parse_freshness(text.replace('= 2208\non_expired = "refuse"', '= 36\non_expired = "refuse"'))
    store = open_feature_store(settings)
    plain, stricter = OnlineFeatureReader(store, BEHAVIOR_SERVICE), OnlineFeatureReader(store, BEHAVIOR_SERVICE, strict)
    now = FRESH + timedelta(hours=37)
    assert statuses(plain, ids, now) == {"present"}
    assert statuses(stricter, ids, now) == {"expired"}
    assert statuses(stricter, ids, FRESH + timedelta(hours=36)) == {"present"}
    assert [row.values for row in stricter.read(ids, now)] == [row.values for row in plain.read(ids, now)]


def test_22_a_customer_whom_nobody_knows_is_unknown_and_has_no_values(served):
    settings, ids = served
    reader = OnlineFeatureReader(open_feature_store(settings), BEHAVIOR_SERVICE)
    rows = reader.read(["nobody", ids[0]], NOW)
    assert [row.status for row in rows] == ["unknown", "present"]
    values = zip(reader.features, rows[0].values, strict=True)
    assert {feature.name for feature, value in values if value is not None} == {"activity_known"}
