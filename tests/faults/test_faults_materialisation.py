"""Rows of the fault catalogue that materialisation answers for, each against a real store."""

import random
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.support.materialisation_store import ENGINE, NOON, World, redis, sqlite
from tests.support.redis_server import RedisProcess

HOUR = timedelta(hours=1)
CUSTOMERS = 3000
SMALL = {"type": ENGINE, "batch_rows": 100, "send_kib": 4}
KILLS = 2
SCRIPT = """
import sys
from pathlib import Path
from tests.support.materialisation_store import *
folder, port, batch_rows = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
online = redis(port, 0) if port else sqlite(folder)
world = World.__new__(World)
world.folder, world.online = folder, online
world.store = world.open({"type": ENGINE, "batch_rows": batch_rows, "send_kib": 4})
print("ready", flush=True)
world.materialize()
"""


def numbered(world):
    world.add(*({"id": str(number), "number": number, "name": "x" * 200} for number in range(CUSTOMERS)))


def equal_to_offline(world):
    return world.numbers(*map(str, range(CUSTOMERS))) == list(range(CUSTOMERS))


def test_16_redis_killed_during_materialisation(tmp_path):
    with RedisProcess(tmp_path) as server:
        world = World(tmp_path, redis(server.port, 0), SMALL)
        numbered(world)
        batches = iter(range(CUSTOMERS))
        engine = world.store._get_provider().batch_engine
        pull = engine.offline_store.pull_latest_from_table_or_query

        class Stopping(type(engine.offline_store)):
            """Kills the server when a third of the rows has been read."""

            @staticmethod
            def pull_latest_from_table_or_query(**question):
                job = pull(**question)
                reader = job.to_reader

                def until_the_kill(rows):
                    for batch in reader(rows):
                        if next(batches) == CUSTOMERS // SMALL["batch_rows"] // 3:
                            server.kill()
                        yield batch

                job.to_reader = until_the_kill
                return job

        engine.offline_store = Stopping()
        with pytest.raises(RedisError):
            world.materialize()
        assert world.watermarks() == {None}
        server.start()
        world.store = world.open(SMALL)
        world.materialize()
        assert world.watermarks() == {NOON}
        assert equal_to_offline(world)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_17_a_correction_with_the_same_event_time_lands(kind, tmp_path):
    with RedisProcess(tmp_path) as server:
        world = World(tmp_path, sqlite(tmp_path) if kind == "sqlite" else redis(server.port, 0))
        world.add({"id": "a", "number": 1})
        world.materialize()
        world.add({"id": "a", "number": 2, "created": NOON + HOUR})
        world.materialize(NOON + HOUR)
        assert world.numbers("a") == [2]


def test_20_redis_comes_back_empty(tmp_path):
    with RedisProcess(tmp_path) as server:
        world = World(tmp_path, redis(server.port, 0))
        numbered(world)
        world.materialize()
        server.kill()
        server.start()
        world.store = world.open({"type": ENGINE})
        assert world.numbers("0", "1") == [None, None]
        world.materialize(NOON + HOUR)
        assert equal_to_offline(world)


def test_24_redis_out_of_memory(tmp_path):
    with RedisProcess(tmp_path, "--maxmemory", "2mb", "--maxmemory-policy", "noeviction") as server:
        world = World(tmp_path, redis(server.port, 0), SMALL)
        numbered(world)
        with pytest.raises(RedisError, match="maxmemory"):
            world.materialize()
        assert world.watermarks() == {None}
        with Redis(port=server.port) as client:
            client.config_set("maxmemory", "100mb")
        world.materialize()
        assert world.watermarks() == {NOON}
        assert equal_to_offline(world)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_45_an_older_row_never_overwrites_a_newer_one(kind, tmp_path):
    with RedisProcess(tmp_path) as server:
        world = World(tmp_path, sqlite(tmp_path) if kind == "sqlite" else redis(server.port, 0))
        world.add(*({"id": name, "number": 1} for name in "abc"))
        for name, event in (("a", NOON + HOUR), ("b", NOON), ("c", NOON - HOUR)):
            streamed = {"id": [name], "number": [9], "name": [name], "event": [event], "created": [NOON - HOUR]}
            world.store.write_to_online_store("numbers", inputs=streamed)
        world.materialize(NOON + 2 * HOUR)
        assert world.numbers("a", "b", "c") == [9, 1, 1]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_16_kill_9_of_the_materialising_process(kind, tmp_path):
    chance = random.Random(58)
    with RedisProcess(tmp_path) as server:
        world = World(tmp_path, sqlite(tmp_path) if kind == "sqlite" else redis(server.port, 0), SMALL)
        numbered(world)
        port = server.port if kind == "redis" else 0
        killed = 0
        for _ in range(KILLS):
            words = [sys.executable, "-c", SCRIPT, str(tmp_path), str(port), "10"]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout.readline() == "ready\n"
                time.sleep(chance.uniform(0.2, 1.2))
                process.kill()
                killed += process.wait() == -signal.SIGKILL
        assert killed
        assert world.watermarks() <= {None, NOON}
        world.materialize()
        assert world.watermarks() == {NOON}
        assert equal_to_offline(world)
