"""Against a real Redis: what is asked, what is written, and what an error leaves behind."""

from datetime import timedelta

import pyarrow as pa
import pytest
from feast.value_type import ValueType
from google.protobuf.timestamp_pb2 import Timestamp
from redis import Redis
from redis.exceptions import ResponseError

from feature_repo.stores.online_write.redis_writer import RedisWriter, _instant_us, connection_of, stamp_field
from feature_repo.stores.online_write.row_schema import OnlineRowSchema, SourceColumn
from tests.support.materialisation_store import NOON

HOUR = timedelta(hours=1)
SHAPE = OnlineRowSchema(
    {"id": SourceColumn("id", ValueType.STRING)},
    {"v": {"n": SourceColumn("n", ValueType.INT64)}, "w": {"n": SourceColumn("n", ValueType.INT64)}},
    "event",
    "created",
)


@pytest.fixture
def client(redis_server):
    with Redis(port=redis_server, db=9) as client:
        client.flushdb()
        yield client


def write(client, number, event=NOON, ids="ab", **options):
    columns = {
        "id": list(ids),
        "n": [number] * len(ids),
        "event": pa.array([event] * len(ids), pa.timestamp("us", "UTC")),
    }
    with connection_of(client) as connection:
        writer = RedisWriter(connection, project="world", shape=SHAPE, send_bytes=16, **options)
        writer.write(writer.prepare(pa.RecordBatch.from_pydict(columns)))
        writer.finish()


def stored(client):
    return [client.hgetall(key) for key in sorted(client.scan_iter())]


@pytest.mark.parametrize(
    ("event", "options", "lands"),
    [
        (NOON, {}, True),
        (NOON, {"corrects": False}, False),
        (NOON + HOUR, {"corrects": False}, True),
        (NOON - HOUR, {}, False),
        (NOON - HOUR, {"overwrite_newer": True}, True),
    ],
)
def test_the_rule(client, event, options, lands):
    write(client, 1)
    before = stored(client)
    write(client, 2, event, **options)
    assert (stored(client) != before) is lands


def test_a_view_and_a_key_that_are_newer_stay_and_the_rest_is_written(client):
    write(client, 1)
    first, second = sorted(client.scan_iter())
    later = Timestamp()
    later.FromDatetime(NOON + 2 * HOUR)
    client.hset(first, stamp_field("v"), later.SerializeToString())
    before = stored(client)
    write(client, 2, NOON + HOUR, expire_s=60)
    found = stored(client)
    assert found[0][stamp_field("v")] == before[0][stamp_field("v")]
    assert sum(found[0][name] != before[0][name] for name in before[0]) == 2
    assert sum(found[1][name] != before[1][name] for name in before[1]) == 4
    assert client.ttl(first) > 0
    assert client.ttl(second) > 0


def test_an_error_reply_is_raised_and_the_connection_is_not_used_again(client):
    write(client, 1)
    taken, _ = sorted(client.scan_iter())
    client.delete(taken)
    client.set(taken, "no hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        write(client, 2)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        write(client, 2, overwrite_newer=True)
    assert client.get(taken) == b"no hash"


def test_stored_instants_are_rounded_up():
    assert _instant_us(Timestamp(seconds=1, nanos=1).SerializeToString()) == 1_000_001
    assert _instant_us(None) < 0
