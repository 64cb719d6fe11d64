"""The point-in-time join side by side: `uv run poe bench-pit` (`--rows 1e7`, `--write` for docs/performance.md).

Every run of an engine is a process of its own, so that its peak memory (VmHWM) is its own; the clock runs inside it,
from the entity rows in memory to the answer as an Arrow table, imports left out. Engines take turns, medians are shown.
Each run is printed and kept as it comes; a peer that fails is a row that says so, ours failing is an error at the end.
Four views are four views of one table, eleven columns each: the hand-written peers read such a table once, too.
`DuckDB ASOF`, `arg_max` and `Polars` are those peers, without Feast; Polars takes part where it is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.record import Record, options, report

OURS = "ours"
ENGINES = [OURS, "Feast duckdb", "Feast dask", "DuckDB ASOF", "arg_max", "Polars"]
START_US, DAY_US = 1_700_000_000_000_000, 86_400_000_000
COLUMNS = 11
DASK_ROWS_MAX = 200_000


@dataclass(frozen=True)
class Cells:
    """Which cells a size of the grid has; a history is (parts, probes a customer)."""

    views: tuple[int, ...]
    histories: tuple[tuple[int, int], ...]


WHOLE = Cells((1, 4), ((12, 1), (100, 12)))
QUICK = Cells((1,), ((12, 1),))


def write_table(home: Path, rows: int, history: int, views: int) -> None:
    """Write ``history`` parts of rows/history customers each, in another order each; arrival 6-7 h after the event."""
    customers, random = rows // history, np.random.default_rng(1)
    ids = pa.array([f"C{number:09}" for number in range(customers)])
    folder = home / "offline" / "t"
    folder.mkdir(parents=True)
    for part in range(history):
        event = START_US + part * 30 * DAY_US + random.integers(0, 86_400, customers) * 1_000_000
        created = event + 6 * 3_600_000_000 + random.integers(0, 3600, customers) * 1_000_000
        columns = {
            "customer_id": ids.take(pa.array(random.permutation(customers))),
            "event_timestamp": pa.array(event).cast(pa.timestamp("us", "UTC")),
            "created_timestamp": pa.array(created).cast(pa.timestamp("us", "UTC")),
        }
        for number in range(COLUMNS * views):
            whole = random.integers(0, 10_000, customers)
            columns[f"f{number}"] = pa.array(whole if number % 3 == 0 else whole / 100)
        pq.write_table(pa.table(columns), folder / f"{part:03}.parquet", compression="zstd", row_group_size=122_880)


def write_entities(home: Path, rows: int, history: int, probes: int) -> None:
    """Write ``probes`` rows a customer at random instants of the whole time, in random order."""
    customers, random = rows // history, np.random.default_rng(2)
    who = np.repeat(np.arange(customers), probes)
    random.shuffle(who)
    observed = START_US + random.integers(0, history * 30 * 86_400, len(who)) * 1_000_000
    ids = pa.array([f"C{number:09}" for number in range(customers)])
    instants = pa.array(observed).cast(pa.timestamp("us", "UTC"))
    table = pa.table({"customer_id": ids.take(pa.array(who)), "event_timestamp": instants, "row": np.arange(len(who))})
    pq.write_table(table, home / "entities.parquet")


def feast_store(home: Path, engine: str, views: int):
    """Return a plain FeatureStore and the references of all its features."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.repo_config import RepoConfig
    from feast.types import Float64, Int64, String

    kind = {
        "ours": {"type": "feature_repo.stores.offline.AsofOfflineStore", "home": str(home)},
        "Feast duckdb": {"type": "duckdb"},
        "Feast dask": {"type": "dask"},
    }[engine]
    path = (
        "offline/t/*.parquet" if engine == "ours" else f"{home}/offline/t" + ("/*.parquet" * (engine != "Feast dask"))
    )
    stamps = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created_timestamp"}
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    source = FileSource(name="t", path=path, **stamps)
    objects, refs = [customer, source], []
    for view in range(views):
        names = [f"f{number}" for number in range(view * COLUMNS, (view + 1) * COLUMNS)]
        fields = [Field(name=name, dtype=Int64 if int(name[1:]) % 3 == 0 else Float64) for name in names]
        schema = [Field(name="customer_id", dtype=String), *fields]
        objects.append(FeatureView(name=f"v{view}", entities=[customer], schema=schema, source=source))
        refs += [f"v{view}:{name}" for name in names]
    with tempfile.TemporaryDirectory() as folder:
        registry = {"registry_type": "sql", "path": f"sqlite:///{folder}/r.db", "cache_ttl_seconds": 0}
        config = {"project": "bench", "provider": "local", "registry": registry, "offline_store": kind}
        store = FeatureStore(
            config=RepoConfig(repo_path=home, online_store=None, entity_key_serialization_version=3, **config)
        )
        store.apply(objects)
    return store, refs


def with_feast(home: Path, engine: str, views: int) -> tuple[np.ndarray, pa.Table]:
    """Join through ``get_historical_features``."""
    store, refs = feast_store(home, engine, views)
    entities = pq.read_table(home / "entities.parquet").to_pandas()
    begin = clock()
    # The dask store does not know the filter; the other two use it.
    known = {} if engine == "Feast dask" else {"filter_by_created_timestamp": True}
    table = store.get_historical_features(entities, refs, **known).to_arrow()
    return clock() - begin, table


def with_duckdb(home: Path, engine: str, views: int) -> tuple[np.ndarray, pa.Table]:
    """Join by one SQL statement of DuckDB."""
    import duckdb

    entities = pq.read_table(home / "entities.parquet")
    names = ", ".join(f"t.f{number}" for number in range(COLUMNS * views))
    files = f"read_parquet('{home}/offline/t/*.parquet'"
    asof = (
        f"SELECT e.*, {names} FROM entities e ASOF LEFT JOIN "  # noqa: S608 - names of ours
        f"(SELECT *, greatest(event_timestamp, created_timestamp) AS known FROM {files})) t "
        "ON e.customer_id = t.customer_id AND e.event_timestamp >= t.known"
    )
    arg_max = (
        "WITH best AS (SELECT e.row, arg_max((t.file_index, t.file_row_number), (t.event_timestamp, "  # noqa: S608
        f"t.created_timestamp)) AS at FROM {files}) t JOIN entities e ON e.customer_id = t.customer_id AND "
        "t.event_timestamp <= e.event_timestamp AND t.created_timestamp <= e.event_timestamp GROUP BY e.row) "
        f"SELECT e.*, {names} FROM entities e LEFT JOIN (SELECT best.row, t.* FROM best JOIN (SELECT file_index AS fi, "
        f"file_row_number AS rn, * FROM {files})) t ON best.at[1] = t.fi AND best.at[2] = t.rn) t ON t.row = e.row"
    )
    connection = duckdb.connect(config={"threads": 2, "preserve_insertion_order": False})
    # DuckDB takes registered rows for few, and would meet each with every stored row.
    connection.execute("SET asof_loop_join_threshold = 0")
    connection.register("entities", entities)
    begin = clock()
    table = connection.execute(asof if engine == "DuckDB ASOF" else arg_max).fetch_arrow_table()
    return clock() - begin, table


def with_polars(home: Path, _engine: str, views: int) -> tuple[np.ndarray, pa.Table]:
    """Join by ``join_asof``, sorted as it wants it."""
    import polars as pl

    entities = pl.read_parquet(home / "entities.parquet")
    names = [f"f{number}" for number in range(COLUMNS * views)]
    begin = clock()
    known = pl.max_horizontal("event_timestamp", "created_timestamp").alias("known")
    stored = pl.scan_parquet(f"{home}/offline/t/*.parquet").select("customer_id", known, *names).sort("known")
    joined = entities.lazy().sort("event_timestamp")
    joined = joined.join_asof(stored, left_on="event_timestamp", right_on="known", by="customer_id")
    table = joined.sort("row").collect().to_arrow()
    return clock() - begin, table


def clock() -> np.ndarray:
    """Return (wall clock, processor time of all threads) in seconds: the second is steadier on a shared machine."""
    return np.array([time.perf_counter(), time.process_time()])


def peak_mb() -> float:
    """Return this process's peak resident memory in MB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1000


def one(home: Path, engine: str, views: int) -> None:
    """Run one engine once and print its figures; ``sum`` is over two columns, to compare the answers."""
    run = with_feast if engine in ENGINES[:3] else with_polars if engine == "Polars" else with_duckdb
    seconds, table = run(home, engine, views)
    sums = [round(float(np.nansum(table[name].to_numpy())), 2) for name in ("f0", f"f{COLUMNS * views - 1}")]
    print(json.dumps({"s": seconds[0], "cpu": seconds[1], "mb": peak_mb(), "rows": table.num_rows, "sums": sums}))


def measure(home: Path, engine: str, views: int, limit_s: int) -> dict:
    """Run one engine in a process of its own."""
    command = [sys.executable, __file__, "--one", engine, "--home", str(home), "--views", str(views)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def grid(sizes: list[int], rounds: int, limit_s: int, cells: Cells, record: Record) -> list[str]:
    """Measure every cell of the grid; return the lines of a Markdown table."""
    engines = [each for each in ENGINES if each != "Polars" or find_spec("polars")]
    lines = [
        "| rows | probes a key (history) | views | engine | seconds | x ours | CPU s | x ours | MB | same answer |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for rows in sizes:
        for views in cells.views if rows < 100_000_000 else (1,):  # four views of it fill the disk
            for history, probes in cells.histories:
                with tempfile.TemporaryDirectory() as folder:
                    home = Path(folder)
                    write_table(home, rows, history, views)
                    write_entities(home, rows, history, probes)
                    cell = f"{rows:,} rows, {probes} probes, {views} views"
                    found: dict[str, list[dict | None]] = {each: [] for each in engines}
                    for turn in range(rounds):
                        what = f"{cell}, round {turn + 1} of {rounds}"
                        for engine in engines:
                            small = engine != "Feast dask" or rows <= DASK_ROWS_MAX
                            # An engine that fails here takes no more turns in this cell: it may have used all its time.
                            if small and (not turn or found[engine][-1]):
                                asked = home, engine, views, limit_s
                                found[engine].append(record.attempt(engine, what, measure, *asked, ours=engine == OURS))
                lines += _lines(f"| {rows:,} | {probes} ({history}) | {views} |", found)
    return [*lines, ""]


def _lines(head: str, found: dict[str, list[dict | None]]) -> list[str]:
    lines = []
    ours = [run for run in found[OURS] if run]
    for engine, turns in found.items():
        runs = [run for run in turns if run]
        if not turns:
            lines.append(f"{head} {engine} | not run at this size | | | | | |")
        elif len(runs) < len(turns):
            lines.append(f"{head} {engine} | failed | | | | | |")
        else:
            times = []
            for kind in ("s", "cpu"):
                ratios = [run[kind] / own[kind] for run, own in zip(runs, ours, strict=False)]
                beside = f"{statistics.median(ratios):.1f}x" if ratios else "-"
                times.append(f"{statistics.median(run[kind] for run in runs):.2f} | {beside}")
            same = bool(ours) and all(runs[0][each] == ours[0][each] for each in ("sums", "rows"))
            peak = max(run["mb"] for run in runs)
            lines.append(f"{head} {engine} | {' | '.join(times)} | {peak:,.0f} | {'yes' if same else 'no'} |")
    return lines


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=1e6, help="largest table of the grid (0.1, 1, 10 M rows)")
    parser.add_argument(
        "--hundred-million", action="store_true", help="100 M rows as well: some 25 minutes, 4 GB of disk"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit-s", type=int, default=120, help="an engine that takes longer is given up")
    parser.add_argument("--quick", action="store_true", help="one small cell, to see that it runs")
    options(parser)
    parser.add_argument("--one", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--views", type=int, default=1, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(asked.home, asked.one, asked.views)
        return
    sizes = [size for size in (100_000, 1_000_000, 10_000_000) if size <= asked.rows]
    sizes, rounds, cells = sizes + [100_000_000] * asked.hundred_million, asked.rounds, WHOLE
    if asked.quick:
        sizes, rounds, cells = [2_400], 1, QUICK
    sys.exit(report("bench-pit", asked, lambda record: grid(sizes, rounds, asked.limit_s, cells, record)))


if __name__ == "__main__":
    main()
