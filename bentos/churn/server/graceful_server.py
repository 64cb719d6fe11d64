"""uvicorn's server with our connections: one door before everything, and an end that loses no request.

BentoML builds its server itself and offers no choice of protocol, so :func:`install` puts ours in the place from which
it takes the server's class.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import resource
import socket
import struct
import sys
from collections.abc import Callable
from typing import ClassVar, Final

import uvicorn
from starlette.types import ASGIApp

from bentos.churn.metrics import Meters
from bentos.churn.server.connection import Connection, Limits
from bentos.churn.server.deadlines import Budget, Deadlines
from configs.settings import ServingSettings

CONNECTIONS_MAX: Final = 10_000
HELD_MAX_BYTES: Final = 32 * 1024 * 1024
"""Of requests that were sent ahead of the answers, in all connections of a worker."""
_DESCRIPTORS_KEPT: Final = 256
"""File descriptors that the process needs for itself."""
_ACCEPT_S: Final = 0.1
_TICKS_PER_S: Final = 10


class Server(uvicorn.Server):
    """uvicorn's server with our connections, and an end that loses no request.

    uvicorn stops to accept at once when it is told to end. Whoever has connected by then and was not accepted, or was
    and has sent a request that was not read, gets no answer. Here newcomers are turned away first, by the kernel and
    unseen: theirs asks again a second later and is then told that nobody listens. Who came before is answered.
    """

    door: ClassVar[Callable[[ASGIApp], ASGIApp]]

    def __init__(self, config: uvicorn.Config) -> None:
        config.http = Connection
        # Nothing of the server's own application is asked: what it does for each request costs, and keeps memory for
        # a minute.
        config.app = type(self).door(config.app)  # type: ignore[arg-type]
        config.proxy_headers = False  # nobody asks for a client's address
        # A client that knows for how long an idle connection is kept closes it before we do.
        config.headers.append(("Keep-Alive", f"timeout={Connection.limits.idle_s}"))
        super().__init__(config)
        self._listening: list[socket.socket] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        self._listening = sockets or []
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Once a second, detach the filter from the listening sockets: a worker that ends attaches it for all."""
        if counter % _TICKS_PER_S == 0 and not self.should_exit:
            for each in self._listening:
                let_in(each)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Turn newcomers away, accept those who came before, answer all, end."""
        Connection.ending = True
        for each in self._listening:
            turn_away(each)
        await asyncio.sleep(_ACCEPT_S)
        await super().shutdown(sockets)


def install(serving: ServingSettings, meters: Meters, door: Callable[[ASGIApp], ASGIApp]) -> None:
    """Make the server that is built next in this process use our connections, and ``door`` around its application."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    Connection.limits = Limits(
        head_s=serving.header_timeout_s,
        answer_s=serving.request_timeout_s,
        idle_s=serving.keep_alive_s,
        connections=max(min(open_files - _DESCRIPTORS_KEPT, CONNECTIONS_MAX), 1),
        refused=lambda error: meters.refusals.labels(error.error).inc(),
        held=Budget(HELD_MAX_BYTES),
        strangers=Deadlines(Connection.late),
        known=Deadlines(Connection.late),
        writing=Deadlines(Connection.late_answer),
        unadmitted={},
    )
    Connection.ending = False
    Server.door = staticmethod(door)
    uvicorn.Server = Server  # type: ignore[misc]


_ATTACH, _DETACH = 26, 27
"""SO_ATTACH_FILTER and SO_DETACH_FILTER of asm-generic/socket.h."""


def turn_away(listening: socket.socket) -> None:
    """Let the kernel drop who wants to connect, for all processes that share the socket. On Linux; else nothing."""
    # A program of one instruction: return 0 bytes of any packet (struct sock_filter, struct sock_fprog).
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    _set(listening, _ATTACH, struct.pack("HP", 1, ctypes.addressof(program)))


def let_in(listening: socket.socket) -> None:
    """End what :func:`turn_away` did, if it did."""
    _set(listening, _DETACH, bytes(4))


def _set(listening: socket.socket, option: int, value: bytes) -> None:
    if sys.platform == "linux":
        # There may be no filter to detach; and a kernel without filters only ends less politely.
        with contextlib.suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, option, value)
