"""Ours and the others as real servers, asked in turns by one load generator."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import psutil

from configs.settings import PROJECT_ROOT, Settings
from flows.service_process import SERVICE, ServiceProcess, free_port, service_environment
from tests.bench.record import Record, reason
from tests.bench.serving.load import Figures, Load, driven
from tests.bench.serving.machine import on
from tests.bench.serving.world import ANSWER, World, served_by

OURS = "ours, one worker"
OURS_TWO = "ours, two workers"
OURS_SQLITE = "ours on SQLite"
OURS_UNTABLED = "ours, explained by `pred_contribs`"
OURS_DEEP = "ours, trees of depth 5"
OURS_DEEP_UNTABLED = "ours, trees of depth 5, explained by `pred_contribs`"
USUAL = "the usual way"
TUNED = "the usual way, tuned"
PRECOMPUTED = "tuned, on Feast's precomputed vectors"
LIVEZ = "no-op: `GET /livez` of ours"
PARSING = "no-op: BentoML parses and answers"
FLOOR = "floor: bare uvicorn"
_SERVICES = {USUAL: "Usual", TUNED: "Tuned", PRECOMPUTED: "Precomputed", PARSING: "Parsing"}
START = "start"
"""What a contender is recorded to fail at that never answered."""
READY_S = 180
BODIES = 500
MANY = 100
"""Customers of a batch."""


@dataclass(frozen=True)
class Shape:
    """How it is asked."""

    title: str
    clients: int
    customers: int


ONE = Shape("One client, one customer a request", 1, 1)
SIXTEEN = Shape("16 clients, one customer a request", 16, 1)
BATCHES = Shape(f"One client, {MANY} customers a request", 1, MANY)
SHAPES = (ONE, SIXTEEN, BATCHES)


@dataclass(frozen=True)
class Contender:
    """A server that runs, and how it wants to be asked."""

    name: str
    port: int
    process: psutil.Process
    path: str = "/predict"
    scores: bool = True
    """Whether it answers for the customers that are asked for, batches too."""
    ours: bool = False

    def load(self, shape: Shape, world: World, seconds: float, cores: list[int]) -> Load:
        """Return the load of one turn."""
        plain = Load(self.port, self.path, clients=shape.clients, seconds=seconds, cores=cores, headers=world.headers)
        if self.path == "/livez":
            return plain
        chosen = random.Random(7)
        asked = [chosen.sample(world.ids, shape.customers) for _ in range(BODIES if shape.customers == 1 else 50)]
        if shape.customers == 1:
            bodies, path = [f'{{"customer_id": "{ids[0]}"}}' for ids in asked], self.path
        else:
            bodies = ['{"customer_ids": ["' + '", "'.join(ids) + '"]}' for ids in asked]
            path = f"{self.path}/batch"
        marks = [f'"{ids[-1]}"' for ids in asked] if self.scores else []
        return dataclasses.replace(plain, path=path, bodies=bodies, marks=marks)

    def cpu_s(self) -> float:
        """Return the processor time of the server's processes so far."""
        processes = [self.process, *self.process.children(recursive=True)]
        times = [each.cpu_times() for each in processes]
        return sum(each.user + each.system for each in times)


@dataclass(frozen=True)
class Turn:
    """What one turn of one contender gave; ``cpu_ms`` is the server's processor time a request."""

    figures: Figures
    cpu_ms: float


Found = dict[str, list[Turn | None]]
"""Contender -> a turn a round, None where it failed; none at all of one that did not start."""


@contextmanager
def contenders(
    world: World, app: list[int], both: list[int], record: Record, only: frozenset[str] | None = None
) -> Iterator[list[Contender]]:
    """Start the servers on the ``app`` cores, that with two workers on ``both``; yield those that became ready.

    ``only`` names those that are wanted; ours, which the no-op and the floor need, is always there: where it does not
    start, nothing does.
    """
    with ExitStack() as stack:

        def start(settings: Settings, cores: list[int], target: str = SERVICE, **changes: object) -> ServiceProcess:
            with on(cores):
                return stack.enter_context(ServiceProcess(served_by(settings, **changes), target))

        first = start(world.redis, app)
        _wait(f"{first.base_url}/readyz", first.process)
        _keep_answer(first, world)
        servers: dict[str, Callable[[], ServiceProcess]] = {
            OURS_TWO: lambda: start(world.redis, both, workers=2),
            OURS_SQLITE: lambda: start(world.sqlite, app),
            OURS_UNTABLED: lambda: start(world.untabled, app),
            OURS_DEEP: lambda: start(world.deep, app),
            OURS_DEEP_UNTABLED: lambda: start(world.deep_untabled, app),
            **{
                name: partial(start, world.redis, app, f"tests.bench.serving.services:{service}")
                for name, service in _SERVICES.items()
            },
        }
        found = [Contender(OURS, _port(first), psutil.Process(first.process.pid), ours=True)]
        # One after the other: those that start at once wait for each other's imports.
        for name, begin in servers.items():
            if only is None or name in only:
                with started(record, name, ours=name not in _SERVICES):
                    running = begin()
                    _wait(f"{running.base_url}/readyz", running.process)
                    process = psutil.Process(running.process.pid)
                    scores, ours = name != PARSING, name not in _SERVICES
                    found.append(Contender(name, _port(running), process, scores=scores, ours=ours))
        found.append(dataclasses.replace(found[0], name=LIVEZ, path="/livez", scores=False))
        with started(record, FLOOR), on(app):
            port = free_port()
            bare = stack.enter_context(_bare(port, world.redis))
            found.append(Contender(FLOOR, port, psutil.Process(bare.pid), scores=False))
        yield found


@contextmanager
def started(record: Record, name: str, *, ours: bool = False) -> Iterator[None]:
    """Record a contender that fails in the block; the others go on."""
    try:
        yield
    except Exception as broken:  # noqa: BLE001 - as in Record.attempt
        record.fail(name, START, reason(broken), ours=ours)


def measure(
    ready: list[Contender],
    world: World,
    record: Record,
    *,
    shapes: tuple[Shape, ...],
    rounds: int,
    seconds: float,
    cores: list[int],
) -> dict[Shape, Found]:
    """Return what each contender gave in each round; the contenders take turns, forwards and backwards.

    One that fails in a turn takes the next ones all the same: a server may answer again.
    """
    absent: Found = {each.contender: [] for each in record.failed if each.what == START}
    found: dict[Shape, Found] = {}
    for shape in shapes:
        taking = [each for each in ready if each.scores or shape.customers == 1]
        for each in taking:
            _attempt(record, each, "warm-up", shape, world, min(seconds, 1.0), cores)
        found[shape] = {each.name: [] for each in taking} | absent
        for number in range(rounds):
            turn = f"round {number + 1} of {rounds}"
            for each in taking if number % 2 == 0 else reversed(taking):
                found[shape][each.name].append(_attempt(record, each, turn, shape, world, seconds, cores))
    return found


def _attempt(record: Record, contender: Contender, turn: str, shape: Shape, *how: Any) -> Turn | None:
    return record.attempt(
        contender.name, f"{shape.title}, {turn}", lambda: _turn(contender, shape, *how), ours=contender.ours
    )


def _port(running: ServiceProcess) -> int:
    return httpx.URL(running.base_url).port or 0


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers; one that loads says 503, and one of another kind has no such route."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode} at its start")
        try:
            if httpx.get(url, timeout=READY_S).status_code < 500:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{url} did not answer within {READY_S} s")


def _keep_answer(ours: ServiceProcess, world: World) -> None:
    answer = httpx.post(f"{ours.base_url}/predict", json={"customer_id": world.ids[0]}, headers=world.headers)
    answer.raise_for_status()
    (world.redis.home / ANSWER).write_bytes(answer.content)


@contextmanager
def _bare(port: int, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "uvicorn", "tests.bench.serving.floor:app", "--host", "127.0.0.1"]
    words += ["--port", str(port), "--no-access-log", "--log-level", "warning"]
    process = subprocess.Popen(words, cwd=PROJECT_ROOT, env=service_environment(settings))
    try:
        _wait(f"http://127.0.0.1:{port}/", process)
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _turn(contender: Contender, shape: Shape, world: World, seconds: float, cores: list[int]) -> Turn:
    before = contender.cpu_s()
    figures = driven(contender.load(shape, world, seconds, cores))
    if figures.lost or figures.wrong or set(figures.statuses) != {"200"}:
        answered = ", ".join(f"{count} x {status}" for status, count in figures.statuses.items())
        raise RuntimeError(f"answers {answered or 'none'}; lost {figures.lost}, of another customer {figures.wrong}")
    return Turn(figures, (contender.cpu_s() - before) * 1000 / figures.answers)
