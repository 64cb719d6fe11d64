"""How fast values get online, side by side: `uv run poe bench-materialize [--rows N] [--write]`.

Each contender materialises the same simulated table into an empty store through `store.materialize`, in a process of
its own. The runs are interleaved; the ratio is the median of the rounds' ratios. The floor is `redis-cli --pipe` fed
with our own bytes. Each figure is printed and kept as it comes; a peer that fails is a row that says so, ours failing
is an error at the end. `--write` puts the tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from redis import Redis

from configs.settings import PROJECT_ROOT
from tests.bench.record import Record, options, report
from tests.bench.serving import tables
from tests.bench.serving.machine import redis_server

ENGINE = "feature_repo.stores.engine.ColumnarComputeEngine"
LOCAL = {"type": "local"}
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
VIEWS = 4
COLUMNS = {"float64": 4, "string": 3, "bool": 2, "int64": 2}
"""What each view holds: 11 features, 44 in all."""
TUNED = {"online_write_batch_size": 5000, "pull_latest_features": True}
REDIS = {
    "Feast as it comes": (LOCAL, {}, {}),
    "Feast tuned: batches of 5,000, newest rows only": (LOCAL, {}, TUNED),
    "Feast tuned, `skip_dedup`": (LOCAL, {"skip_dedup": True}, TUNED),
    "ours": ({"type": ENGINE}, {}, {}),
    "ours, `overwrite_newer`": ({"type": ENGINE, "overwrite_newer": True}, {}, {}),
}
SQLITE = {
    "Feast as it comes": (LOCAL, {}, {}),
    "Feast tuned: batches of 5,000, newest rows only": (LOCAL, {}, TUNED),
    "ours": ({"type": ENGINE}, {}, {}),
}
PIPE = "floor: `redis-cli --pipe` with the same bytes"
OURS = "ours"


def write_table(folder: Path, rows: int) -> None:
    """Write a simulated table of `rows` customers; in row groups, so that no reader needs all of it at once."""
    rng = np.random.default_rng(7)
    (folder / "offline" / "table").mkdir(parents=True)
    stamp = pa.array(np.full(rows, int(NOON.timestamp() * 1e6)), pa.timestamp("us", "UTC"))
    columns = {"customer_id": pa.array([f"{number:08d}-ABCDE" for number in range(rows)])}
    make = {
        "float64": lambda: rng.normal(size=rows),
        "string": lambda: rng.choice(["Yes", "No", "No internet service"], rows),
        "bool": lambda: rng.random(rows) < 0.5,
        "int64": lambda: rng.integers(0, 1_000_000, rows),
    }
    for view in range(VIEWS):
        for kind, count in COLUMNS.items():
            columns |= {f"{kind}_{view}_{number}": make[kind]() for number in range(count)}
    table = pa.table(columns | {"event": stamp, "created": stamp})
    pq.write_table(table, folder / "offline" / "table" / "part.parquet", row_group_size=50_000)


def run(folder: Path, online: dict, engine: dict, materialization: dict) -> dict:
    """Materialise once; return seconds and how much the process grew (MB). Runs in a process of its own."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource
    from feast.repo_config import RepoConfig
    from feast.types import Bool, Float64, Int64, String
    from feast.value_type import ValueType

    types = {"float64": Float64, "string": String, "bool": Bool, "int64": Int64}
    source = FileSource(
        name="table", path="offline/table/*.parquet", timestamp_field="event", created_timestamp_column="created"
    )
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    views = [
        FeatureView(
            name=f"view_{view}",
            entities=[customer],
            source=source,
            ttl=timedelta(days=30),
            schema=[
                Field(name="customer_id", dtype=String),
                *(
                    Field(name=f"{kind}_{view}_{number}", dtype=types[kind])
                    for kind, count in COLUMNS.items()
                    for number in range(count)
                ),
            ],
        )
        for view in range(VIEWS)
    ]
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            repo_path=str(folder),
            registry={"registry_type": "sql", "path": f"sqlite:///{folder / f'registry-{time.time_ns()}.db'}"},
            offline_store={"type": "feature_repo.stores.offline.AsofOfflineStore", "home": str(folder)},
            online_store=online,
            batch_engine=engine,
            materialization=materialization,
            entity_key_serialization_version=3,
        )
    )
    store.apply([customer, *views])
    _ = store._get_provider().batch_engine  # what it imports is no part of the work
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        store.materialize(NOON - timedelta(days=1), NOON)
    seconds = time.perf_counter() - start
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"seconds": seconds, "grown_mb": int(peak.split()[1]) / 1024 - before / 2**20}


def alone(folder: Path, online: dict, contender: tuple[dict, dict, dict]) -> dict:
    engine, options, materialization = contender
    words = [sys.executable, __file__, "--run", json.dumps([str(folder), online | options, engine, materialization])]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=PROJECT_ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def recorded(folder: Path, rows: int) -> Path:
    """Write down the bytes that our engine would send for the whole table."""
    from feast.value_type import ValueType

    from feature_repo.stores.online_write.redis_writer import RedisWriter
    from feature_repo.stores.online_write.row_schema import OnlineRowSchema, SourceColumn
    from feature_repo.stores.wire import redis_protocol

    kinds = {
        "float64": ValueType.DOUBLE,
        "string": ValueType.STRING,
        "bool": ValueType.BOOL,
        "int64": ValueType.INT64,
    }
    shape = OnlineRowSchema(
        {"customer_id": SourceColumn("customer_id", ValueType.STRING)},
        {
            f"view_{view}": {
                name: SourceColumn(name, kinds[kind])
                for kind, count in COLUMNS.items()
                for name in (f"{kind}_{view}_{number}" for number in range(count))
            }
            for view in range(VIEWS)
        },
        "event",
        "created",
    )
    writer = RedisWriter(None, project="bench", shape=shape, send_bytes=1 << 18)
    target = folder / "commands.resp"
    with target.open("wb") as file:
        for batch in pq.ParquetFile(folder / "offline" / "table" / "part.parquet").iter_batches(10_000):
            file.write(redis_protocol.stream(writer.prepare(batch).everything))
    print(f"{rows:,} rows are {target.stat().st_size / 1e6:,.0f} MB of commands", file=sys.stderr)
    return target


def piped(commands: Path, port: int) -> dict:
    start = time.perf_counter()
    with commands.open("rb") as file:
        subprocess.run(["redis-cli", "-p", str(port), "--pipe"], stdin=file, check=True, capture_output=True)
    return {"seconds": time.perf_counter() - start}


def flushed(port: int) -> None:
    with Redis(port=port) as client:
        client.flushall()


def table(rounds: list[dict[str, dict | None]], rows: int, against: str) -> list[str]:
    lines = [
        f"| way | view rows a second | x {against} (median, range) | grows by, MB |",
        "|---|---|---|---|",
    ]
    for name in rounds[0]:
        turns = [found[name] for found in rounds]
        speed = tables.median([turn and VIEWS * rows / turn["seconds"] for turn in turns], 0)
        grown = tables.median([turn and turn.get("grown_mb") for turn in turns], 0)
        ratio = tables.over(seconds(rounds, against), seconds(rounds, name)) or "-"
        lines.append(f"| {tables.named(name, turns)} | {speed} | {ratio} | {grown} |")
    return lines


def seconds(rounds: list[dict[str, dict | None]], name: str) -> tables.Rounds:
    """Return what a way took in each round, None where it failed."""
    return [found[name] and found[name]["seconds"] for found in rounds]


def measure(rows: int, rounds: int, record: Record) -> list[str]:
    """Return the section of the document."""
    folder = Path(tempfile.mkdtemp(prefix="bench-materialize-"))
    try:
        small = folder / "small"
        write_table(small, rows)
        commands = recorded(small, rows)
        by_redis, by_sqlite = [], []

        def attempt(name: str, what: str, work: Callable[..., dict], *given: object) -> dict | None:
            return record.attempt(name, what, work, *given, ours=name.startswith(OURS))

        with redis_server(folder / "redis", []) as port:
            online = {"type": "redis", "connection_string": f"127.0.0.1:{port},db=0"}
            for number in range(rounds):
                turn = f"round {number + 1} of {rounds}"
                found = {}
                for name, contender in REDIS.items():
                    flushed(port)
                    found[name] = attempt(name, f"Redis, {turn}", alone, small, online, contender)
                flushed(port)
                found[PIPE] = attempt(PIPE, turn, piped, commands, port)
                by_redis.append(found)
                found = {}
                for name, contender in SQLITE.items():
                    path = folder / f"online-{time.time_ns()}.db"
                    sqlite = {"type": "sqlite", "path": str(path)}
                    found[name] = attempt(name, f"SQLite, {turn}", alone, small, sqlite, contender)
                    path.unlink(missing_ok=True)
                by_sqlite.append(found)
            flushed(port)
            grown = {}
            for size in (5 * rows, 20 * rows):
                write_table(folder / str(size), size)
                grown[size] = attempt(OURS, f"{size:,} rows", alone, folder / str(size), online, REDIS[OURS])
                flushed(port)
    finally:
        shutil.rmtree(folder)
    reached = tables.over(seconds(by_redis, PIPE), seconds(by_redis, OURS))
    sizes = [f"{found['grown_mb']:,.0f} MB with {size:,} rows" for size, found in grown.items() if found]
    return [
        "## Materialisation",
        "",
        (
            f"`uv run poe bench-materialize`: {rows:,} simulated customers, {VIEWS} views of 11 features each"
            f" from one table, an empty store; {rounds} interleaved rounds, each run in its own process."
            " Redis on loopback shares two cores with the writer and whatever else runs."
        ),
        "",
        "### Redis",
        "",
        *table(by_redis, rows, "Feast tuned: batches of 5,000, newest rows only"),
        "",
        (
            f"Ours reaches {reached or 'nothing that could be measured'} of the floor. The process grows by"
            f" {' and '.join(sizes) or 'what could not be measured'}."
        ),
        "",
        "### SQLite",
        "",
        *table(by_sqlite, rows, "Feast as it comes"),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=25_000)
    parser.add_argument("--rounds", type=int, default=2)
    options(parser)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        folder, online, engine, materialization = json.loads(given.run)
        print(json.dumps(run(Path(folder), online, engine, materialization)))
        return
    sys.exit(report("bench-materialize", given, lambda record: measure(given.rows, given.rounds, record)))


if __name__ == "__main__":
    main()
