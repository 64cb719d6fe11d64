"""The service under load for a long time: `uv run poe soak --minutes 30 [--write]`.

Two workers on Redis with API keys, receipts and metrics, a steady rate of predictions, another champion every minute.
Told are the latencies of each 10,000 requests, the memory of the workers, what was lost, and whether every answer left
its receipt. Nothing of it is asserted. `--write` puts the tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

from bentos.receipts.sqlite_sink import receipts_path
from bentos.rollout.rollout import promote
from configs.settings import Settings
from flows.service_process import ServiceProcess
from tests.bench.record import Entry, Record, options, reason, report
from tests.bench.serving import machine, world
from tests.bench.serving.load import Figures, Load, started

WORKERS = 2
CLIENTS = 16
BLOCK = 10_000
BLOCKS_SHOWN = 10
MEMORIES_SHOWN = 12
READY_S = 180
QUICK = {"minutes": 0.15, "rate": 200.0, "customers": 300, "trees": 20, "swap_s": 2.0, "block": 500}


@dataclass
class Soaked:
    """What a run was like; memory is (seconds since the start, MB of all workers together)."""

    blocks: list[Figures] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    swaps: int = 0
    metrics: str = ""
    log: str = ""
    receipts: int = 0
    receipts_mb: float = 0.0
    ended_early: bool = False
    """Whether the load broke off: nobody was there to connect to."""

    @property
    def answers(self) -> int:
        """How many were answered."""
        return sum(each.answers for each in self.blocks)

    def counted(self, what: str, outcome: str) -> int:
        """Return an outcome that the service's own metrics counted; 0 where it never came about."""
        line = rf'^churn_{what}_total{{outcome="{outcome}"}} (\S+)$'
        told = re.search(line, self.metrics, re.MULTILINE)
        return int(float(told.group(1))) if told else 0


def soak(given: argparse.Namespace, folder: Path, record: Record) -> Soaked:
    """Run the load and the promotions until the time is up; what the service fails at is recorded."""
    available = machine.cores()
    found = Soaked()
    with machine.redis_server(folder / "redis-data", available[:1]) as port:
        built = world.build(folder, port, given.customers, given.trees)
        settings = world.served_by(built.redis, workers=WORKERS)
        rivals = _rivals(settings)
        with ServiceProcess(settings) as running:
            running.wait("/readyz", READY_S)
            load = _load(running, built, given, available[:1])
            process = started(load)
            watching = threading.Event()
            threads = [
                threading.Thread(target=_watch, args=(running, found, watching)),
                threading.Thread(target=_swap, args=(settings, rivals, given.swap_s, found, watching)),
            ]
            for thread in threads:
                thread.start()
            try:
                for line in process.stdout or ():
                    found.blocks.append(Figures(**json.loads(line)))
                    record.add(Entry("the service", f"block {len(found.blocks)}", _told(found, given), ours=True))
                found.ended_early = process.wait() != 0
                if found.ended_early:
                    record.fail("the service", "the load", "it could not be reached any more", ours=True)
            finally:
                process.kill()
                watching.set()
                for thread in threads:
                    thread.join()
            found.metrics = _metrics(running, built, record)
        # The service has ended: what waited was written.
        found.log = running.log.read_text("utf-8", errors="replace")
        path = receipts_path(settings.home)
        with closing(sqlite3.connect(path)) as database:
            (found.receipts,) = database.execute("SELECT count(*) FROM churn_receipts").fetchone()
        found.receipts_mb = path.stat().st_size / 1e6
    return found


def _metrics(running: ServiceProcess, built: world.World, record: Record) -> str:
    """Return the service's metrics, nothing where it is gone: what was measured before is worth as much."""
    try:
        return httpx.get(f"{running.base_url}/metrics", headers=built.headers, timeout=60).text
    except httpx.TransportError as gone:
        record.fail("the service", "/metrics", reason(gone), ours=True)
        return ""


def _rivals(settings: Settings) -> list[str]:
    """Return the digests of two bundles that take turns; their answers differ."""
    first = world.champion_of(settings)
    manifest = replace(first.manifest, model_version="bench-other", calibration=(1.0, 0.2))
    return [replace(first, manifest=manifest).save(settings.home).digest, first.digest]


def _load(running: ServiceProcess, built: world.World, given: argparse.Namespace, cores: list[int]) -> Load:
    ids = list(built.ids)
    random.Random(7).shuffle(ids)
    return Load(
        port=httpx.URL(running.base_url).port or 0,
        path="/predict",
        bodies=[f'{{"customer_id": "{each}"}}' for each in ids],
        marks=[f'"{each}"' for each in ids],
        headers=built.headers,
        clients=CLIENTS,
        seconds=given.minutes * 60,
        rate=given.rate,
        block=given.block,
        cores=cores,
    )


def _watch(running: ServiceProcess, found: Soaked, ended: threading.Event) -> None:
    """Note the memory of the workers every few seconds."""
    service, began = psutil.Process(running.process.pid), time.monotonic()
    while not ended.wait(2.0):
        sizes = []
        for each in service.children(recursive=True):
            try:
                if "worker" in " ".join(each.cmdline()):
                    sizes.append(each.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        found.memory.append((time.monotonic() - began, sum(sizes) / 1e6))


def _swap(settings: Settings, rivals: list[str], every_s: float, found: Soaked, ended: threading.Event) -> None:
    while not ended.wait(every_s):
        promote(settings.home, rivals[found.swaps % 2], who="soak", why="another minute", now=datetime.now(UTC))
        found.swaps += 1


def _told(found: Soaked, given: argparse.Namespace) -> str:
    last = found.blocks[-1]
    memory = found.memory[-1][1] if found.memory else 0.0
    return (
        f"{found.answers:,} answers, the last {given.block:,}: p50 {last.p50_ms:.2f} ms, p99 {last.p99_ms:.2f} ms,"
        f" lost {last.lost}, wrong {last.wrong}, {last.statuses}; {found.swaps} swaps; {memory:,.0f} MB"
    )


def section(found: Soaked, given: argparse.Namespace) -> list[str]:
    """Return the text and the tables of the document."""
    whole = [each for each in found.blocks if each.answers >= given.block]
    bad = sum(count for each in found.blocks for status, count in each.statuses.items() if status != "200")
    lost, wrong = (sum(getattr(each, name) for each in found.blocks) for name in ("lost", "wrong"))
    return [
        "## A long run",
        "",
        (
            f"`uv run poe soak --minutes {given.minutes:g}`: {WORKERS} workers on Redis with keys, receipts and"
            f" metrics, {CLIENTS} connections, {given.rate:g} requests a second, another champion every"
            f" {given.swap_s:g} s; load generator, Redis and workers share the cores."
        ),
        "",
        f"- {found.answers:,} answers; lost requests {lost}; other statuses than 200: {bad}; wrong customers: {wrong}.",
        *(["- The load broke off: the service could not be reached."] if found.ended_early else []),
        (
            f"- {found.swaps} promotions; the workers swapped {found.counted('model_swaps', 'swapped')} times in all,"
            f" and refused {found.counted('model_swaps', 'refused')} times."
        ),
        (
            f"- {found.receipts:,} receipts kept, {found.counted('receipts', 'dropped')} dropped"
            f" ({found.receipts_mb:,.0f} MB of SQLite)."
        ),
        f"- Unexpected exceptions in the log: {len(re.findall(r'(?i)traceback|unexpected', found.log))}.",
        "",
        f"| {given.block:,} requests, number | p50 ms | p99 ms | slowest ms |",
        "|---|---|---|---|",
        *(
            f"| {number + 1} | {each.p50_ms:.2f} | {each.p99_ms:.2f} | {each.max_ms:.1f} |"
            for number, each in _spread_out(list(enumerate(whole)), BLOCKS_SHOWN)
        ),
        "",
        "| after minutes | MB of the workers together |",
        "|---|---|",
        *(f"| {at / 60:.1f} | {size:,.0f} |" for at, size in _spread_out(found.memory, MEMORIES_SHOWN)),
    ]


def _spread_out(figures: list, most: int) -> list:
    """Return the first, the last, and some between them at even distances."""
    if len(figures) <= most:
        return figures
    return [figures[round(place * (len(figures) - 1) / (most - 1))] for place in range(most)]


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second; 0: as fast as they are answered")
    parser.add_argument("--customers", type=int, default=7043)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--swap-s", type=float, default=60.0, help="seconds between promotions")
    parser.add_argument("--block", type=int, default=BLOCK, help="requests whose latencies are told together")
    parser.add_argument("--quick", action="store_true", help="some seconds of it, to see that it runs")
    options(parser)
    given = parser.parse_args()
    if given.quick:
        vars(given).update(QUICK)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        sys.exit(report("soak", given, lambda record: section(soak(given, folder, record), given)))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
