"""uvicorn server with our connections and gateway, and a shutdown that loses no request.

BentoML builds its server itself and offers no choice of protocol, so :func:`install` replaces the server's class where
BentoML looks it up. See docs/decisions/0027-front-door.md.
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

from bentos.churn.metrics import ServiceMetrics
from bentos.churn.server.connection import ConnectionLimits, HttpProtocol
from bentos.churn.server.deadlines import Budget, Deadlines
from configs.settings import ServingSettings

CONNECTIONS_MAX: Final = 10_000
HELD_MAX_BYTES: Final = 32 * 1024 * 1024
"""Most bytes of pipelined requests, in all connections of a worker."""
_DESCRIPTORS_KEPT: Final = 256
"""File descriptors that the process needs for itself."""
_ACCEPT_S: Final = 0.1
_TICKS_PER_S: Final = 10


class GracefulServer(uvicorn.Server):
    """uvicorn's server with our connections, and a shutdown that loses no request.

    uvicorn stops accepting at once on shutdown. A client that has connected by then and was not accepted, or was and
    has sent a request that was not read, gets no answer. Here the kernel first drops new connection attempts silently:
    their clients repeat them a second later and are then refused. Earlier connections are answered.
    """

    gateway: ClassVar[Callable[[ASGIApp], ASGIApp]]

    def __init__(self, config: uvicorn.Config) -> None:
        config.http = HttpProtocol
        # The server's own application gets no requests: its processing of each one costs time, and keeps memory for
        # a minute.
        config.app = type(self).gateway(config.app)  # type: ignore[arg-type]
        config.proxy_headers = False  # the client's address is not used
        # A client that knows for how long an idle connection is kept closes it first.
        config.headers.append(("Keep-Alive", f"timeout={HttpProtocol.limits.idle_s}"))
        super().__init__(config)
        self._listening: list[socket.socket] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start accepting connections."""
        self._listening = sockets or []
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Detach the filter from the listening sockets once a second: a worker that ends attaches it for all."""
        if counter % _TICKS_PER_S == 0 and not self.should_exit:
            for each in self._listening:
                resume_accepting(each)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drop new connection attempts, accept the earlier ones, answer all requests, end."""
        HttpProtocol.is_shutting_down = True
        for each in self._listening:
            stop_accepting(each)
        await asyncio.sleep(_ACCEPT_S)
        await super().shutdown(sockets)


def install(serving: ServingSettings, metrics: ServiceMetrics, gateway: Callable[[ASGIApp], ASGIApp]) -> None:
    """Make the next server built in this process use our connections, and ``door`` around its application."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    HttpProtocol.limits = ConnectionLimits(
        head_s=serving.header_timeout_s,
        answer_s=serving.request_timeout_s,
        idle_s=serving.keep_alive_s,
        connections=max(min(open_files - _DESCRIPTORS_KEPT, CONNECTIONS_MAX), 1),
        refused=lambda error: metrics.refusals.labels(error.error).inc(),
        held=Budget(HELD_MAX_BYTES),
        not_admitted=Deadlines(HttpProtocol.on_header_timeout),
        admitted=Deadlines(HttpProtocol.on_header_timeout),
        writing=Deadlines(HttpProtocol.on_write_timeout),
        unadmitted={},
    )
    HttpProtocol.is_shutting_down = False
    GracefulServer.gateway = staticmethod(gateway)
    uvicorn.Server = GracefulServer  # type: ignore[misc]


_ATTACH, _DETACH = 26, 27
"""SO_ATTACH_FILTER and SO_DETACH_FILTER of asm-generic/socket.h."""


def stop_accepting(listening: socket.socket) -> None:
    """Drop new connection attempts in the kernel, for all processes that share the socket.

    On Linux; elsewhere it does nothing.
    """
    # A BPF program of one instruction: return 0 bytes of any packet (struct sock_filter, struct sock_fprog).
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    _set(listening, _ATTACH, struct.pack("HP", 1, ctypes.addressof(program)))


def resume_accepting(listening: socket.socket) -> None:
    """Undo :func:`stop_accepting`, if it was called."""
    _set(listening, _DETACH, bytes(4))


def _set(listening: socket.socket, option: int, value: bytes) -> None:
    if sys.platform == "linux":
        # There may be no filter to detach; without kernel filters late connections may be reset.
        with contextlib.suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, option, value)
