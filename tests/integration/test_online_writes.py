"""One rule for what gets online, whichever of Feast's APIs it comes by: never older over newer; corrections land."""

import asyncio
import contextlib
import io
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pandas as pd
import pytest
from feast import PushSource
from redis import Redis

from feature_repo.stores.online_write.instants import has_doubted, is_utc
from tests.support.materialisation_store import ENGINE, NOON, World

HOUR = timedelta(hours=1)
MILLISECOND = timedelta(milliseconds=1)
DATABASE = 8
REDIS = "feature_repo.stores.online_redis.PlannedRedisOnlineStore"
SQLITE = "feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore"


def online(kind, folder, request):
    if kind == "sqlite":
        return {"type": SQLITE, "path": str(folder / "online.db")}
    port = request.getfixturevalue("redis_server")
    with Redis(port=port, db=DATABASE) as client:
        client.flushdb()
    # What a configuration of before says about duplicates changes nothing.
    return {"type": REDIS, "connection_string": f"127.0.0.1:{port},db={DATABASE}", "skip_dedup": kind == "redis+skip"}


@pytest.fixture(params=["sqlite", "redis", "redis+skip"])
def world(request, tmp_path):
    return World(tmp_path, online(request.param, tmp_path, request))


def frame(*rows):
    """Rows of (id, number, event timestamp)."""
    columns = {"id": [row[0] for row in rows], "number": [row[1] for row in rows], "name": ["x"] * len(rows)}
    return pd.DataFrame(columns | {"event": [row[2] for row in rows], "created": [row[2] for row in rows]})


def write(world, *rows):
    world.store.write_to_online_store("numbers", frame(*rows))


def write_async(world, *rows):
    store = world.open({"type": ENGINE})  # its client belongs to one event loop

    async def written():
        await store.write_to_online_store_async("numbers", frame(*rows))
        await store._get_provider().online_store._client_async.aclose()

    asyncio.run(written())


def push(world, *rows):
    view = world.views["numbers"].__copy__()
    view.stream_source = PushSource(name="pushed", batch_source=view.batch_source)
    world.store.apply([view])
    world.store.push("pushed", frame(*rows))


def materialize_locally(world, *rows):
    """Feast's own engine, which writes through the store."""
    store, world.store = world.store, world.open({"type": "local"})
    world.add(*({"id": name, "number": number, "event": at, "created": at} for name, number, at in rows))
    with contextlib.redirect_stdout(io.StringIO()):
        world.store.materialize(min(row[2] for row in rows), max(row[2] for row in rows), ["numbers"])
    world.store = store


@pytest.mark.parametrize("api", [write, write_async, push, materialize_locally])
def test_an_older_row_never_replaces_a_newer_one(world, api, caplog):
    if api is write_async and "sqlite" in world.online["type"]:
        api = write  # Feast's SQLite store has no asynchronous writer
    write(world, ("a", 100, NOON))
    caplog.clear()
    api(world, ("a", 50, NOON - HOUR), ("b", 7, NOON - HOUR))
    assert world.numbers("a", "b") == [100, 7]
    assert "numbers: 1 of 2 rows not written" in caplog.text
    api(world, ("a", 101, NOON))
    assert world.numbers("a") == [101]
    api(world, ("a", 102, NOON + HOUR))
    assert world.numbers("a") == [102]


@pytest.mark.parametrize("api", [write, push, materialize_locally])
def test_an_older_row_of_the_same_second_never_replaces_a_newer_one(world, api):
    write(world, ("a", 100, NOON + 600 * MILLISECOND))
    api(world, ("a", 50, NOON + 200 * MILLISECOND))
    assert world.numbers("a") == [100]
    api(world, ("a", 101, NOON + 601 * MILLISECOND))
    assert world.numbers("a") == [101]
    world.add({"id": "a", "number": 51, "event": NOON, "created": NOON + 300 * MILLISECOND})
    world.materialize(NOON + HOUR, ["numbers"])
    assert world.numbers("a") == [101]
    world.add({"id": "a", "number": 102, "event": NOON + 700 * MILLISECOND, "created": NOON + 700 * MILLISECOND})
    world.materialize(NOON + HOUR, ["numbers"])
    assert world.numbers("a") == [102]


class TestTwoPushesAtOnce:
    """Of each round's two the newer rows stay, whichever push reads or writes first."""

    NAMES = tuple(f"{number}" for number in range(450))
    ROUNDS = range(0, 80, 2)

    @pytest.fixture
    def world(self, request, tmp_path):
        return World(tmp_path, online("redis", tmp_path, request))

    def rows(self, number):
        return frame(*((name, number, NOON + number * HOUR) for name in self.NAMES))

    def wrong(self, world, number):
        return sum(found != number for found in world.numbers(*self.NAMES))

    def test_by_threads(self, world):
        with ThreadPoolExecutor(2) as pool:
            for number in self.ROUNDS:
                started = Barrier(2)

                def push(rows, started=started):
                    started.wait()
                    world.store.write_to_online_store("numbers", rows)

                for done in [pool.submit(push, self.rows(each)) for each in (number, number + 1)]:
                    done.result()
                assert self.wrong(world, number + 1) == 0

    def test_on_one_event_loop(self, world):
        async def push():
            for number in self.ROUNDS:
                both = [self.rows(number + 1), self.rows(number)]
                await asyncio.gather(*(world.store.write_to_online_store_async("numbers", rows) for rows in both))
                assert self.wrong(world, number + 1) == 0
            await world.store._get_provider().online_store.close()

        asyncio.run(push())


def test_the_newest_of_a_batch_wins_wherever_it_stands(world):
    write(world, ("a", 2, NOON + HOUR), ("a", 1, NOON), ("b", 1, NOON), ("b", 2, NOON + HOUR))
    assert world.numbers("a", "b") == [2, 2]


def test_an_instant_without_a_zone_is_utc(world):
    write(world, ("a", 1, NOON))
    write(world, ("a", 2, (NOON - HOUR).replace(tzinfo=None)), ("b", 1, NOON.replace(tzinfo=None)))
    read = world.store.get_online_features(["numbers:number"], [{"id": "a"}, {"id": "b"}])
    found = read.to_dict(include_event_timestamps=True)
    assert found["number"] == [1, 1]
    assert found["number__ts"] == [int(NOON.timestamp())] * 2


def test_a_row_of_the_future_is_repaired_by_the_next_materialisation(world):
    later = datetime.now(UTC) + timedelta(days=1000)
    write(world, ("a", 9, later), ("b", 9, NOON + HOUR))
    world.add({"id": "a", "number": 1}, {"id": "b", "number": 1})
    world.materialize(NOON + 2 * HOUR)
    assert world.numbers("a", "b") == [1, 9]


def test_what_materialisation_leaves_is_counted(world, caplog):
    write(world, ("a", 9, NOON + HOUR))
    world.add({"id": "a", "number": 1}, {"id": "b", "number": 1})
    world.materialize(NOON + 2 * HOUR, ["numbers"])
    assert "numbers: 1 of 2 rows not written" in caplog.text
    assert world.store._get_provider().batch_engine.kept == {"numbers": 1}
    world.materialize(NOON + 2 * HOUR, ["lists"])
    assert not world.store._get_provider().batch_engine.kept.total()


def test_history_that_was_loaded_after_the_end_is_told_and_comes_with_a_later_end(world, caplog):
    world.add({"id": "a", "number": 1, "created": NOON + HOUR}, {"id": "b", "number": 1, "created": NOON + HOUR})
    world.materialize(NOON, ["numbers"])
    assert world.numbers("a", "b") == [None, None]
    assert "the latest rows of 2 keys were created after" in caplog.text
    world.materialize(NOON + HOUR, ["numbers"])
    assert world.numbers("a", "b") == [1, 1]


def test_an_end_in_the_future_is_now(world, caplog):
    begin = datetime.now(UTC)
    row = {"id": "a", "event": begin - HOUR, "created": begin - HOUR}
    world.add(row | {"number": 1})
    world.materialize(datetime(2400, 1, 1, tzinfo=UTC), ["numbers"])
    assert "the end 2400-01-01 00:00:00+00:00 is in the future" in caplog.text
    assert world.numbers("a") == [1]
    assert begin <= max(world.watermarks() - {None}) <= datetime.now(UTC)
    world.add(row | {"number": 2, "created": begin})
    world.materialize(datetime.now(UTC), ["numbers"])
    assert world.numbers("a") == [2]


def test_a_watermark_in_the_future_is_brought_back(world, caplog):
    world.add({"id": "a", "number": 1})
    future = datetime(2400, 1, 1, tzinfo=UTC)
    view = world.store.get_feature_view("numbers")
    world.store.registry.apply_materialization(view, "world", NOON, future)
    assert world.watermarks() == {None, future}
    world.add({"id": "a", "number": 2, "created": NOON + HOUR})
    world.materialize(NOON + HOUR, ["numbers"])
    assert world.numbers("a") == [2]
    assert world.watermarks() == {None, NOON + HOUR}
    assert "its watermark lay in the future" in caplog.text


class TestAnOlderFile:
    """What was written before instants were UTC, by processes of some time zone."""

    @pytest.fixture
    def world(self, tmp_path):
        world = World(tmp_path, {"type": SQLITE, "path": str(tmp_path / "online.db")})
        world.add({"id": "a", "number": 1}, {"id": "b", "number": 1})
        world.materialize()
        return world

    def age(self, world, offset_s):
        """Make the file what a version before would have left in a zone so far west of UTC."""
        world.store._get_provider().online_store._conn.close()
        with contextlib.closing(sqlite3.connect(world.online["path"])) as connection:
            for view in world.views:
                connection.execute(
                    f"UPDATE world_{view} SET event_ts = event_ts + ?1, created_ts = created_ts + ?1",  # noqa: S608
                    (offset_s,),
                )
            connection.execute("PRAGMA user_version = 0")
            connection.commit()
        world.store = world.open({"type": ENGINE})

    def test_a_correction_that_was_lost_lands(self, world):
        self.age(world, 4 * 3600)
        world.add({"id": "a", "number": 2, "created": NOON + HOUR})
        world.materialize(NOON + HOUR)
        assert world.numbers("a", "b") == [2, 1]
        with contextlib.closing(sqlite3.connect(world.online["path"])) as connection:
            assert is_utc(connection)
            assert has_doubted(connection) == set()
            assert {row[0] for row in connection.execute("SELECT event_ts FROM world_numbers")} == {
                int(NOON.timestamp())
            }

    def test_doubt_lasts_until_a_run_that_knows_all_and_a_later_row_stays_in_it(self, world):
        write(world, ("b", 9, NOON + 30 * HOUR))
        self.age(world, 4 * 3600)
        world.materialize(NOON - HOUR)
        with contextlib.closing(sqlite3.connect(world.online["path"])) as connection:
            assert has_doubted(connection) == {f"world_{view}" for view in world.views}
        world.materialize(NOON + HOUR)
        assert world.numbers("a", "b") == [1, 9]

    def test_a_file_that_may_not_be_written_is_read(self, world):
        self.age(world, 0)
        with contextlib.closing(sqlite3.connect(world.online["path"], isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            world.store._get_provider().online_store._get_conn(world.store.config).execute("PRAGMA busy_timeout = 0")
            assert world.numbers("a") == [1]
            other.execute("ROLLBACK")
        with contextlib.closing(sqlite3.connect(world.online["path"])) as connection:
            assert not is_utc(connection)
        write(world, ("a", 3, NOON))
        assert world.numbers("a") == [3]
