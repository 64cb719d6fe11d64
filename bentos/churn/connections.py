"""The connections of clients: each must do in time what it has begun, and none is cut off when the service ends.

BentoML builds its server itself and offers no choice of protocol, so :func:`install` puts ours in the place from which
it takes the server's class. What uvicorn leaves open: a head that never ends, or is without end; a client that does not
take its answer; what comes after an answer and is no request; and clients that speak in the moment of the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import resource
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar, Final

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from bentos.churn.errors import HeadTooLargeError, RequestMalformedError, RequestTimeoutError
from bentos.churn.front import FIXED_HEADERS
from bentos.churn.limits import Deadlines
from bentos.churn.meters import Meters
from configs.errors import ChurnError
from configs.settings import ServingSettings

HEAD_MAX_BYTES: Final = 32 * 1024
HEADERS_MAX: Final = 100
FRAMES_MAX_BYTES: Final = 512 * 1024
"""Of what surrounds a chunked body: sizes, extensions, trailers. The limit of the body's size does not count it."""
CONNECTIONS_MAX: Final = 10_000
ANSWERS_MAX: Final = 256
"""On one connection; then its answer says that it is the last. Clients that keep their connections open would else stay
for ever with the worker that happened to accept them, often one for all of them. Who connects anew is accepted by a
worker that has time."""
_SPREAD: Final = 16
"""Connections that were opened together get as many different limits, so that they don't end together."""
_DESCRIPTORS_KEPT: Final = 256
"""File descriptors that the process needs for itself."""
_ACCEPT_S: Final = 0.1
_LINGER_S: Final = 0.5
"""How long a connection without a request stays open when the service ends: one may be on its way."""
_TICKS_PER_S: Final = 10


@dataclass(frozen=True)
class Limits:
    """What a connection must keep to.

    Parameters
    ----------
    head_s
        For a head to arrive, and for the rest of a body whose answer is given.
    answer_s
        For the client to take its answer.
    connections
        Open at once. Beyond it, a connection that has sent no whole head makes room.
    refused
        Told of each refusal.
    reading, writing
        The connections that owe the one or the other.
    """

    head_s: float
    answer_s: float
    connections: int
    refused: Callable[[ChurnError], None]
    reading: Deadlines[Connection]
    writing: Deadlines[Connection]


class Connection(HttpToolsProtocol):
    """A client's connection."""

    limits: ClassVar[Limits]
    ending: ClassVar = False
    """Whether the service ends: each answer is then the last of its connection."""
    opened: ClassVar[Iterator[int]] = count()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.access_log = False  # a path is a caller's text, and may hold a customer id
        self._in_head = False
        self._whole = True
        """Whether nothing of a request is on its way: its body, too, has arrived."""
        self._frame_bytes = 0
        """What came since the last request and is no body."""
        self._refusal: ChurnError | None = None
        self._last: RequestResponseCycle | None = None
        """The request whose answer shall be the last."""
        self._answers_left = ANSWERS_MAX * (_SPREAD + next(self.opened) % _SPREAD) // (2 * _SPREAD)

    @property
    def answering(self) -> bool:
        """Whether an answer is owed to the client."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            oldest = self.limits.reading.oldest()
            victim = self if oldest is None or oldest.answering else oldest
            self.limits.reading.clear(victim)
            victim.transport.abort()
        if not transport.is_closing():
            self.limits.reading.set(self, self.limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.limits.reading.clear(self)
        self.limits.writing.clear(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, as uvicorn does; refuse in our own shape, and don't let it be without end."""
        self._unset_keepalive_if_required()
        self._frame_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # answered as if it had not asked for another protocol
        except httptools.HttpParserError:
            self._refuse(self._refusal or RequestMalformedError("this is no HTTP request", "speak HTTP/1.1"))
            return
        if self._frame_bytes > (HEAD_MAX_BYTES if self._in_head else FRAMES_MAX_BYTES):
            self._refuse(_head_too_large())
        elif self._in_head or (self._whole and not self.answering):
            # Half a head; or bytes that begin none, for which uvicorn has stopped the clock of idle connections.
            self.limits.reading.set(self, self.limits.head_s)

    def on_message_begin(self) -> None:
        """Begin with a head."""
        super().on_message_begin()
        self._in_head, self._whole = True, False

    def on_headers_complete(self) -> None:
        """Start to answer, unless the head is larger than any that is meant well."""
        # What was counted of the frame may belong to the request before: what was read of this head says it surely.
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if len(self.headers) > HEADERS_MAX or size > HEAD_MAX_BYTES:
            self._refusal = _head_too_large()
            raise self._refusal
        super().on_headers_complete()
        self._in_head = False
        self.limits.reading.clear(self)
        self._answers_left -= 1
        if self._last is not None and self._last is not self.cycle and not (self._last.response_started or self.ending):
            self._last.keep_alive = True  # this one came right behind it, and would be lost
        self._last = None
        if self.ending or self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; the front door counts and times it."""
        self._frame_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        super().on_message_complete()
        self._whole, self._frame_bytes = True, 0
        self.limits.reading.clear(self)
        # Not before its body is here: who is refused in the middle of sending must be able to read why. And not while
        # another one waits.
        done = self._answers_left <= 0 and not self.pipeline
        if done and self.cycle.keep_alive and not self.cycle.response_started:
            self.cycle.keep_alive = False
            self._last = self.cycle

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of one that has begun: this one's body, the next one's head."""
        super().on_response_complete()
        if not self._whole:
            self.limits.reading.clear(self)
            self.limits.reading.set(self, self.limits.head_s)

    def pause_writing(self) -> None:
        """Begin to wait for the client to take its answer."""
        super().pause_writing()
        self.limits.writing.set(self, self.limits.answer_s)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self.limits.writing.clear(self)

    def shutdown(self) -> None:
        """Answer what was begun, and what is on its way; then close."""
        if self.answering:
            self.cycle.keep_alive = False
        self.loop.call_later(_LINGER_S, self._leave)

    def _should_upgrade(self) -> bool:
        return False

    def _leave(self) -> None:
        if not self.answering:
            self.transport.close()

    def late_head(self) -> None:
        """Cut: what was begun did not come."""
        if self.answering:
            # The next request is begun before this one is answered: its time begins with the answer, anew.
            self.limits.reading.set(self, self.limits.head_s)
        elif self._in_head:
            self._refuse(RequestTimeoutError(f"the head did not arrive within {self.limits.head_s} s", "send it again"))
        else:
            self.transport.close()

    def late_answer(self) -> None:
        """Cut: the answer is not taken."""
        self.transport.abort()

    def _refuse(self, error: ChurnError) -> None:
        if self.transport.is_closing():
            return
        self.limits.refused(error)
        body = json.dumps(error.body()).encode()
        headers = [
            *self.server_state.default_headers,
            *FIXED_HEADERS,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join([STATUS_LINE[error.http_status], *lines, b"\r\n", body]))
        self.transport.close()


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
        super().__init__(config)
        self._listening: list[socket.socket] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        self._listening = sockets or []
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Once a second, let newcomers in again: a worker that ends alone must not close the door for its siblings."""
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
        connections=max(min(open_files - _DESCRIPTORS_KEPT, CONNECTIONS_MAX), 1),
        refused=lambda error: meters.refusals.labels(error.error).inc(),
        reading=Deadlines(Connection.late_head),
        writing=Deadlines(Connection.late_answer),
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


def _head_too_large() -> HeadTooLargeError:
    return HeadTooLargeError(
        f"the head exceeds {HEAD_MAX_BYTES >> 10} KiB or {HEADERS_MAX} headers", "send fewer or shorter headers"
    )
