"""Reading many hashes over connections that are kept: in order, in pieces, after errors, from many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from feature_repo.stores.online_read import redis_connection
from feature_repo.stores.online_read.redis_connection import Fields, RedisReader

FIELDS = Fields([b"a", b"\x00\r\n", b"_ts:v"], b"-end")


@pytest.fixture
def client(redis_server):
    with Redis(port=redis_server, db=14, retry=None) as client:
        client.flushdb()
        for number in range(10):
            client.hset(b"%d-end" % number, mapping={b"a": b"%d" % number, b"\x00\r\n": b"x\r\n"})
        yield client
        client.connection_pool.disconnect()


def expected(*numbers):
    return [[b"%d" % number, b"x\r\n", None] if number < 10 else [None] * 3 for number in numbers]


def keys(*numbers):
    return [b"%d" % number for number in numbers]


def test_replies_come_in_the_order_of_the_keys(client):
    assert RedisReader(client).read(keys(7, 77, 3), FIELDS) == expected(7, 77, 3)


def test_many_keys_are_read_in_pieces(client, monkeypatch):
    monkeypatch.setattr(redis_connection, "KEYS_AT_ONCE", 3)
    numbers = [number % 12 for number in range(100)]
    assert RedisReader(client).read(keys(*numbers), FIELDS) == expected(*numbers)


@pytest.mark.slow
def test_more_than_the_sockets_hold_does_not_stand_still(client):
    wide = Fields([b"a"] * 700, b"-end")
    rows = RedisReader(client).read(keys(*[5] * 5000), wide)
    assert len(rows) == 5000
    assert rows[0] == rows[-1] == [b"5"] * 700


def test_a_connection_is_used_again(client):
    reader = RedisReader(client)
    before = client.info("stats")["total_connections_received"]
    for _ in range(5):
        reader.read(keys(1), FIELDS)
    assert client.info("stats")["total_connections_received"] == before + 1


def test_idle_connections_that_the_server_closed_are_made_anew(client):
    reader = RedisReader(client)
    reader.read(keys(1), FIELDS)
    (idle,) = reader._idle
    client.client_kill_filter(skipme=True, _type="normal")
    assert reader.read(keys(1), FIELDS) == expected(1)
    assert len(reader._idle) == 1
    assert idle in reader._idle  # redis-py's pool gave the same object back, connected again


def test_an_error_reply_costs_the_connection_and_nothing_else(client):
    client.set(b"text-end", b"no hash")
    reader = RedisReader(client)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        reader.read([b"1", b"text", b"2"], FIELDS)
    # A reply of before must not answer a later question.
    assert reader.read(keys(3), FIELDS) == expected(3)


def test_no_server_is_an_error_each_time(port):
    reader = RedisReader(Redis(port=port, retry=None))
    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            reader.read(keys(1), FIELDS)


def test_another_process_takes_no_connection_of_its_parent(client):
    reader = RedisReader(client)
    reader.read(keys(1), FIELDS)
    (inherited,) = reader._idle
    reader._process -= 1
    assert reader.read(keys(1), FIELDS) == expected(1)
    assert inherited not in reader._idle


def test_threads_do_not_read_each_others_replies(client):
    reader = RedisReader(client)

    def read(number):
        return all(reader.read(keys(number, number), FIELDS) == expected(number, number) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(16)))
    assert len(reader._idle) <= 8
