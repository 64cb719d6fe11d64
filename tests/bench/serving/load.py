"""A load generator: keep-alive connections over raw sockets, one thread, standard library alone.

Run as a process of its own (:func:`driven`), it takes some 20 microseconds of a core a request, so that it measures the
server and not itself. Each client sends its next request when it has the answer to the last one; with a rate, when
that one is due. A request without a whole answer is lost, and counted.
"""

from __future__ import annotations

import gc
import json
import math
import os
import select
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SILENCE_S = 60
"""After so long without any answer the requests under way are lost."""


@dataclass(frozen=True)
class Load:
    """What to ask of whom.

    ``bodies`` are sent in turn, POST; without any, GET. ``marks``, one a body, must stand in its answer. It ends after
    ``seconds``, or after ``count`` requests. ``rate`` is in requests a second, 0 means as fast as it is answered.
    ``block``: figures of each so many requests, told as they come.
    """

    port: int
    path: str
    bodies: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    clients: int = 1
    seconds: float = 0.0
    count: int = 0
    rate: float = 0.0
    block: int = 0
    cores: list[int] = field(default_factory=list)

    def requests(self) -> list[bytes]:
        """Return the bytes of each request."""
        head = "".join(f"{name}: {value}\r\n" for name, value in {"host": "127.0.0.1", **self.headers}.items())
        if not self.bodies:
            return [f"GET {self.path} HTTP/1.1\r\n{head}\r\n".encode()]
        head += "content-type: application/json\r\n"
        encoded = (body.encode() for body in self.bodies)
        return [
            f"POST {self.path} HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body
            for body in encoded
        ]


@dataclass(frozen=True)
class Figures:
    """What came back: times in milliseconds from the first byte sent to the last one received."""

    answers: int
    lost: int
    wrong: int
    statuses: dict[str, int]
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


class _Connection:
    """One client's connection, and the request that is under way on it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket = self._open()
        self.number = -1
        self.sent_at = 0.0
        self.answer = b""

    def _open(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        return made

    def reopen(self) -> None:
        self.socket.close()
        self.socket = self._open()
        self.number = -1

    def send(self, number: int, request: bytes) -> None:
        self.number, self.answer = number, b""
        self.sent_at = time.perf_counter()
        rest = request[self.socket.send(request) :]
        if rest:
            self.socket.setblocking(True)
            self.socket.sendall(rest)
            self.socket.setblocking(False)

    def receive(self) -> tuple[int, bytes] | None:
        """Return (status, answer) when it is whole. Raises ConnectionError where the server ended it."""
        arrived = self.socket.recv(1 << 18)
        if not arrived:
            raise ConnectionError
        self.answer += arrived
        return whole(self.answer)


def whole(answer: bytes) -> tuple[int, bytes] | None:
    """Return (status, answer), or None while bytes are missing."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = answer[:end].lower()
    at = head.find(b"content-length:")
    if at >= 0:
        stop = head.find(b"\r\n", at)
        complete = len(answer) >= end + 4 + int(head[at + 15 : stop if stop >= 0 else end])
    elif b"transfer-encoding: chunked" in head:
        complete = answer.endswith(b"0\r\n\r\n")
    else:
        raise ValueError("an answer without a length")
    return (int(answer[9:12]), answer) if complete else None


class _Tally:
    """Counts the answers of a block."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.times: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.lost = self.wrong = 0

    def add(self, status: int, seconds: float, *, right: bool) -> None:
        self.times.append(seconds)
        self.statuses[status] += 1
        self.wrong += not right

    def count(self) -> int:
        return len(self.times) + self.lost

    def figures(self) -> Figures:
        times = sorted(self.times) or [0.0]
        at = [times[min(int(share * len(times)), len(times) - 1)] * 1000 for share in (0.5, 0.99, 1.0)]
        statuses = {str(status): count for status, count in sorted(self.statuses.items())}
        seconds = time.perf_counter() - self.started
        return Figures(len(self.times), self.lost, self.wrong, statuses, seconds, *at)


class _Drive:
    """The clients of a load at work."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.requests = load.requests()
        self.marks = [mark.encode() for mark in load.marks]
        self.poll = select.epoll()
        self.by_file: dict[int, _Connection] = {}
        self.idle: deque[_Connection] = deque()
        self.tally = _Tally()
        self.sent = 0
        self.started = self.answered_at = time.perf_counter()
        self.ends_at = self.started + load.seconds if load.seconds else math.inf
        for _ in range(load.clients):
            connection = _Connection(load.port)
            self.watch(connection)
            self.idle.append(connection)

    def figures(self) -> Iterator[Figures]:
        """Yield the figures of each block, and those of what is left at the end."""
        while self.more() or len(self.idle) < self.load.clients:
            for file, _ in self.poll.poll(self.send_due()):
                self.receive(self.by_file[file])
            if self.load.block and self.tally.count() >= self.load.block:
                yield self.tally.figures()
                self.tally = _Tally()
            if time.perf_counter() - self.answered_at > SILENCE_S:
                self.tally.lost += self.load.clients - len(self.idle)
                break
        for connection in self.by_file.values():
            connection.socket.close()
        if self.tally.count() or not self.load.block:
            yield self.tally.figures()

    def more(self) -> bool:
        """Return whether requests are left to send."""
        return (not self.load.count or self.sent < self.load.count) and time.perf_counter() < self.ends_at

    def send_due(self) -> float:
        """Send what is due on idle connections; return how many seconds there is nothing to send."""
        while self.idle and self.more():
            if self.load.rate:
                wait = self.started + self.sent / self.load.rate - time.perf_counter()
                if wait > 0:
                    return min(wait, 1.0)
            connection = self.idle.popleft()
            number, self.sent = self.sent, self.sent + 1
            try:
                connection.send(number, self.requests[number % len(self.requests)])
            except ConnectionError:
                self.reopen(connection)
        return 1.0

    def receive(self, connection: _Connection) -> None:
        """Take what arrived; count the answer if it is whole."""
        try:
            found = connection.receive()
        except ConnectionError:
            self.reopen(connection)
            return
        if found is None:
            return
        self.answered_at = time.perf_counter()
        status, answer = found
        right = not self.marks or self.marks[connection.number % len(self.marks)] in answer
        self.tally.add(status, self.answered_at - connection.sent_at, right=right)
        connection.number = -1
        self.idle.append(connection)
        if b"\r\nconnection: close" in answer:
            self.reopen(connection)

    def reopen(self, connection: _Connection) -> None:
        """Put another connection in the place of one that the server ends, with a request under way or without."""
        if connection.number >= 0:
            self.tally.lost += 1
            self.idle.append(connection)
        del self.by_file[connection.socket.fileno()]
        connection.reopen()
        self.watch(connection)

    def watch(self, connection: _Connection) -> None:
        self.by_file[connection.socket.fileno()] = connection
        self.poll.register(connection.socket, select.EPOLLIN)


def driven(load: Load) -> Figures:
    """Run the load in a process of its own and return its figures."""
    process = started(load)
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("the load generator failed")
    return Figures(**json.loads(out.splitlines()[-1]))


def started(load: Load) -> subprocess.Popen[str]:
    """Start the load in a process of its own; its output is a line of JSON a block."""
    # Without site-packages it starts in a few milliseconds.
    words = [sys.executable, "-S", "-E", str(Path(__file__))]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(load)) + "\n")
    process.stdin.flush()
    return process


def main() -> None:
    """Read a load from standard input and drive it."""
    given: dict[str, Any] = json.loads(sys.stdin.readline())
    load = Load(**given)
    if load.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, load.cores)
    gc.disable()
    for figures in _Drive(load).figures():
        print(json.dumps(asdict(figures)), flush=True)


if __name__ == "__main__":
    main()
