"""Each error of a real SQLite or Redis has its own cure; only a damaged file is to be moved away."""

import socket
import sqlite3
import ssl
from contextlib import closing

import pytest
import redis
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from feature_repo.stores.database_errors import Server, redis_cause, sqlite_cause, unreachable
from feature_repo.stores.errors import RegistryUnavailableError, StoreUnavailableError, translate_store_errors

DAMAGED, OTHERWISE = "move it away", "run: churn apply"


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE rows (value TEXT)")
        connection.executemany("INSERT INTO rows VALUES (?)", [("x" * 500,)] * 100)
        connection.commit()
    return path


def full(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA max_page_count = 1")
        connection.executemany("INSERT INTO rows VALUES (?)", [("x" * 500,)] * 100)


def read_only(path):
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("INSERT INTO rows VALUES ('y')")


def busy(path):
    with closing(sqlite3.connect(path)) as other, closing(sqlite3.connect(path, timeout=0)) as connection:
        other.execute("BEGIN EXCLUSIVE")
        connection.execute("SELECT * FROM rows").fetchall()


def no_file(path):
    with closing(sqlite3.connect(path.parent)) as connection:
        connection.execute("SELECT * FROM rows")


def no_database(path):
    path.write_bytes(b"something else" * 1000)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT * FROM rows").fetchall()


def corrupt(path):
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT * FROM rows").fetchall()


def no_table(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT * FROM others")


@pytest.mark.parametrize(
    ("provoke", "what", "cure"),
    [
        (full, "the disk is full", "free disk space"),
        (read_only, "it may not be written", "correct the rights"),
        (busy, "another process holds it", "wait until that one has ended"),
        (no_file, "it can't be opened", "correct the rights"),
        (no_database, "it is damaged", DAMAGED),
        (corrupt, "it is damaged", DAMAGED),
        (no_table, "its tables are not there", OTHERWISE),
    ],
)
def test_each_error_of_sqlite_has_its_own_cure(settings, database, provoke, what, cure):
    with pytest.raises(sqlite3.Error) as broken:
        provoke(database)
    cause = sqlite_cause(broken.value, damaged=DAMAGED, otherwise=OTHERWISE)
    assert cause.what.startswith(what)
    assert cure in cause.cure
    # The same through the one place that every command goes through.
    with pytest.raises(StoreUnavailableError, match=what) as refused, translate_store_errors(settings):
        raise broken.value
    assert ("move it away" in refused.value.hint) == (cure == DAMAGED)


def test_the_registry_is_only_moved_away_where_it_is_damaged(settings, database):
    engine = create_engine(f"sqlite:///{database}", connect_args={"timeout": 0})
    with closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with (
            pytest.raises(RegistryUnavailableError, match="another process holds it") as refused,
            translate_store_errors(settings),
        ):
            _ask(engine)
        assert "move it away" not in refused.value.hint
        other.rollback()
    engine.dispose()
    database.write_bytes(b"something else" * 1000)
    with pytest.raises(RegistryUnavailableError, match="it is damaged") as refused, translate_store_errors(settings):
        _ask(engine)
    assert "move it away" in refused.value.hint
    engine.dispose()


def _ask(engine):
    with engine.connect() as connection:
        connection.execute(text("SELECT * FROM rows"))


def test_an_error_without_a_driver_has_a_name_too(settings):
    with pytest.raises(RegistryUnavailableError, match="SQLAlchemyError"), translate_store_errors(settings):
        raise SQLAlchemyError("its text is not repeated")


def test_what_redis_refuses_by_a_longer_code_is_no_busy_server(redis_server):
    with redis.Redis(port=redis_server, db=12) as client:
        client.flushdb()
        client.set("taken", "here")
        client.xgroup_create("stream", "group", mkstream=True)
        for call in (
            lambda: client.restore("taken", 0, client.dump("taken")),
            lambda: client.xgroup_create("stream", "group"),
        ):
            with pytest.raises(redis.ResponseError, match=r"^BUSY[KG]") as refused:
                call()
            assert redis_cause(refused.value).what == "it refused a command (ResponseError)"


def test_a_command_that_redis_lacks_is_named_with_its_setting(redis_server):
    with redis.Redis(port=redis_server) as client, pytest.raises(redis.ResponseError) as refused:
        client.execute_command("HGETALL.RENAMED")
    cause = redis_cause(refused.value)
    assert cause.what.startswith("it lacks a command")
    assert "rename-command" in cause.cure


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (ssl.SSLError, "the encrypted connection (TLS) failed"),
        (socket.gaierror, "its host name is unknown"),
        (ConnectionRefusedError, "nothing listens at its address"),
        (TimeoutError, "it did not answer in time"),
        (ConnectionResetError, None),
    ],
)
def test_a_server_that_can_not_be_reached_is_named_by_its_own_setting(kind, what):
    outer = RuntimeError("secret")
    outer.__cause__ = kind()
    found = unreachable(outer, Server("CHURN_X__URL", "x://", "xs://", "x.timeout_ms"))
    assert (found and found.what) == what
    if found is not None:
        assert "CHURN_X__URL" in found.cure
        assert "secret" not in found.cure
