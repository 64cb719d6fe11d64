"""What a database refused for is named, with its cure: each state of a real Redis and a real PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import signal
import socketserver
import subprocess
import threading
from datetime import UTC, datetime

import psycopg
import pytest
import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from bentos.receipts.postgres_sink import PostgresSink
from bentos.receipts.signing import ReceiptRow
from bentos.receipts.sink import ReceiptStoreError
from feature_repo.contract import CORE_SERVICE
from feature_repo.stores.errors import StoreUnavailableError
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.materialize import materialize
from feature_repo.stores.online_features import OnlineFeatureReader
from flows.service_process import free_port
from tests.support.online_customers import NOW, build
from tests.support.patience import until
from tests.support.postgres_server import PASSWORD, USER, postgres_server

SECRET = "pa55-w0rd"  # noqa: S105 - of a server that lives for a minute
ROW = ReceiptRow("id-1", "2026-01-01T00:00:00+00:00", "customer", "digest", "{}", "signature")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return build(tmp_path_factory.mktemp("causes"))


def answers(client):
    """Whether a Redis answers, be it with a refusal."""
    try:
        return client.ping()
    except (redis.ResponseError, redis.AuthenticationError, redis.BusyLoadingError):
        # The client takes the last two for failed connections.
        return True
    except redis.ConnectionError:
        return False


@contextlib.contextmanager
def server(folder, *options, port=None):
    """A Redis of our own with these options; yields its port and its process, once it answers something."""
    port = port or free_port()
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen([*words, *options], stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: answers(redis.Redis(port=port, retry=Retry(NoBackoff(), 0))))
            yield port, process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


class Http(socketserver.BaseRequestHandler):
    """Answers whatever is sent to it as a web server does."""

    def handle(self):
        self.request.recv(1 << 16)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")


def on(world, url):
    feast = {"online_store": "redis", "redis_url": SecretStr(url), "redis_timeout_ms": 500}
    return world.settings.model_copy(update={"feast": world.settings.feast.model_copy(update=feast)})


def told(world, url, what, *, reads=True):
    """What materialisation and, unless it ``reads`` all the same, a read say; both must name the cause."""
    settings = on(world, url)
    with pytest.raises(StoreUnavailableError, match=what) as refused:
        materialize(settings, NOW)
    found = [refused.value]
    reader = OnlineFeatureReader(open_feature_store(settings), CORE_SERVICE)
    if reads:
        reader.read(["nobody"], datetime.now(UTC))
    else:
        with pytest.raises(StoreUnavailableError, match=what) as refused:
            reader.read(["nobody"], datetime.now(UTC))
        found.append(refused.value)
    for each in found:
        assert each.hint
        assert SECRET not in each.message + each.hint
        assert "127.0.0.1" not in each.message + each.hint
    return found[0].hint


STATES = {
    "nobody there": ((), "redis://127.0.0.1:{free}/0", "nothing listens at its address", False),
    "no memory": (("--maxmemory", "1"), "redis://127.0.0.1:{port}/0", r"out of memory \(maxmemory\)", True),
    "a replica": (
        ("--replicaof", "127.0.0.1", "{free}"),
        "redis://127.0.0.1:{port}/0",
        "it is a read-only replica",
        True,
    ),
    "no password given": (
        ("--requirepass", SECRET),
        "redis://127.0.0.1:{port}/0",
        "it wants a password and none is set",
        False,
    ),
    "wrong password": (
        ("--requirepass", "another"),
        f"redis://:{SECRET}@127.0.0.1:{{port}}/0",
        "the user name or password is wrong",
        False,
    ),
    "a password that it has not": (
        (),
        f"redis://:{SECRET}@127.0.0.1:{{port}}/0",
        "it has no password and one is set",
        False,
    ),
    "no right to write": (
        ("--user", "reader", "on", f">{SECRET}", "~*", "-@all", "+hmget", "+select", "+client", "+hello", "+ping"),
        f"redis://reader:{SECRET}@127.0.0.1:{{port}}/0",
        r"its user lacks a right \(ACL\)",
        True,
    ),
    "TLS to a plain server": ((), "rediss://127.0.0.1:{port}/0", "it did not answer in time", False),
    "no such database": ((), "redis://127.0.0.1:{port}/99", "no database of this number", False),
    "a node of a cluster": (
        # Of its own choice, the cluster's port is the client's plus 10,000, which may be none.
        ("--cluster-enabled", "yes", "--cluster-port", "{free}"),
        "redis://127.0.0.1:{port}/0",
        "it is a node of a cluster",
        False,
    ),
    "too few replicas": (
        ("--min-replicas-to-write", "2"),
        "redis://127.0.0.1:{port}/0",
        "too few replicas follow it",
        True,
    ),
    "a command that it lacks": (
        ("--rename-command", "HMGET", ""),
        "redis://127.0.0.1:{port}/0",
        "it lacks a command",
        False,
    ),
    "an unknown host": ((), "redis://no-such-host.invalid:{port}/0", "its host name is unknown", False),
}


@pytest.mark.parametrize("state", STATES)
def test_24_each_state_of_redis_is_named_with_its_cure(world, tmp_path, state):
    options, url, what, reads = STATES[state]
    free = free_port()
    with server(tmp_path, *(each.format(free=free) for each in options)) as (port, _):
        told(world, url.format(port=port, free=free), what, reads=reads)


def test_24_what_answers_and_is_no_redis_is_named(world):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Http) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        told(world, f"redis://127.0.0.1:{web.server_address[1]}/0", "speaks no Redis", reads=False)
        web.shutdown()


def test_19_a_redis_that_hangs_is_named(world, tmp_path):
    with server(tmp_path) as (port, process):
        process.send_signal(signal.SIGSTOP)
        told(world, f"redis://127.0.0.1:{port}/0", "it did not answer in time", reads=False)


def test_24_a_redis_that_loads_is_named(world, tmp_path):
    with server(tmp_path) as (port, _):
        client = redis.Redis(port=port)
        # Values that don't compress, each as large as the interval: while it loads it answers once a key.
        client.mset({f"key-{number}": os.urandom(2048) for number in range(10_000)})
        client.save()
    slow = ("--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024")
    with server(tmp_path, "--save", "", *slow) as (port, _):
        told(world, f"redis://127.0.0.1:{port}/0", "it is still loading its data", reads=False)


def test_24_a_redis_without_connections_left_is_named(world, tmp_path):
    with server(tmp_path, "--maxclients", "1") as (port, _), redis.Redis(port=port) as other:
        # The one that asked whether it runs may still be counted for a moment.
        until(lambda: answers(other))
        told(world, f"redis://127.0.0.1:{port}/0", r"no connection left \(maxclients\)", reads=False)


@pytest.fixture(scope="module")
def postgres():
    with postgres_server() as running:
        yield running


def refused(url):
    sink = PostgresSink(url)
    try:
        with pytest.raises(ReceiptStoreError) as found:
            sink.write([ROW])
    finally:
        sink.close()
    said = found.value.message + found.value.hint
    assert PASSWORD not in said
    assert "CHURN_RECEIPTS__DATABASE_URL" in said or found.value.hint
    return found.value.message


def test_47_each_state_of_postgresql_is_named_with_its_cure(postgres):
    url = postgres.url
    assert "it refused the user name or password" in refused(url.replace(PASSWORD, "another"))
    assert "there is no such database" in refused(url.removesuffix("postgres") + "absent")
    assert "nothing listens at its address" in refused(url.replace(str(postgres.port), str(free_port())))
    assert "its host name is unknown" in refused(url.replace("127.0.0.1", "no-such-host.invalid"))
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0")
        guest = url.replace(f"{USER}:", "guest:")
        assert "it has no connection left" in refused(guest)
        admin.execute("ALTER ROLE guest CONNECTION LIMIT 9")
        assert "its user lacks a right" in refused(guest)
        admin.execute("ALTER ROLE guest SET default_transaction_read_only = on")
        assert "it is read-only" in refused(guest)
    with postgres.hanging():
        assert "it did not answer in time" in refused(url)
