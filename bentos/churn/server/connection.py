"""HTTP/1.1 connections with deadlines, and with bounds on what each may make the process hold.

Limits what uvicorn leaves unlimited: a head that never ends, or has no end; an unbounded number of pipelined requests;
a client that does not read its answer; more connections than descriptors; requests that offer another protocol; bytes
after an answer that are no request; and a connection that ends while a request is on its way. See
docs/decisions/0027-front-door.md.
"""

from __future__ import annotations

import asyncio
import json
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from bentos.churn.errors import HeadTooLargeError, RequestMalformedError, RequestTimeoutError
from bentos.churn.server.deadlines import Budget, Deadlines
from bentos.churn.server.gateway import FIXED_HEADERS, KNOWN
from bentos.churn.server.request_boundaries import RequestBoundaries
from configs.errors import ChurnError

HEAD_MAX_BYTES: Final = 32 * 1024
HEADERS_MAX: Final = 100
FRAMES_MAX_BYTES: Final = 512 * 1024
"""Most bytes that frame a chunked body: sizes, extensions, trailers. The body's size limit does not count them."""
ANSWERS_MAX: Final = 256
"""Most answers on one connection; the last one closes it. Otherwise clients that keep their connections open would stay
for ever with the worker that accepted them, often one worker for all of them. A new connection is accepted by a worker
that has time.
"""
_SPREAD: Final = 16
"""Number of different limits among connections that were opened together, so that they do not end together."""
_LINGER_S: Final = 0.5
"""Seconds for which a connection is read after its end was announced: bytes on their way would otherwise reset it."""
_GRACE_S: Final = 2.0
"""Seconds that an idle connection is kept beyond the announced time-out: a request sent in time may arrive later."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits and shared state of all connections of a worker.

    Parameters
    ----------
    head_s
        Seconds for a head to arrive, and for the rest of a body whose answer was sent.
    answer_s
        Seconds for the client to read its answer; for a body, which the gateway times itself.
    idle_s
        Seconds for the next request to begin.
    connections
        Most open at once. Beyond it one is closed to make room (:meth:`Connection.connection_made`).
    refused
        Called with each refusal.
    held
        Budget of bytes of pipelined requests.
    strangers, known
        Deadlines of the connections that owe a head, a body or the next request: those that were never admitted by a
        key, and those that were. The former are closed first to make room.
    writing
        Deadlines of the connections that have not read their answer.
    unadmitted
        All connections that were never admitted by a key, in the order in which they were opened.
    """

    head_s: float
    answer_s: float
    idle_s: float
    connections: int
    refused: Callable[[ChurnError], None]
    held: Budget
    not_admitted: Deadlines[HttpProtocol]
    admitted: Deadlines[HttpProtocol]
    writing: Deadlines[HttpProtocol]
    unadmitted: dict[HttpProtocol, None]


class HttpProtocol(HttpToolsProtocol):
    """A client's connection.

    Parses one request at a time: bytes behind it are held, and no more are read until it is answered.
    """

    limits: ClassVar[ConnectionLimits]
    is_shutting_down: ClassVar = False
    """Whether the service is shutting down: each answer is then the last of its connection."""
    opened: ClassVar[Iterator[int]] = count()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.access_log = False  # a path is a caller's text, and may hold a customer id
        self._clock = self.limits.not_admitted
        self._parts = RequestBoundaries()
        self._in_head = False
        self._whole = True
        """Whether no request is being received: its body, too, has arrived."""
        self._upgrading = False
        """Whether the head that is parsed offers another protocol: it is then parsed again without the offer."""
        self._frame_bytes = 0
        """Bytes since the last request that are not of a body."""
        self._held = b""
        self._more = False
        """Whether more was received than is parsed at this moment."""
        self._deaf = False
        """Whether received bytes are dropped: the connection ends with the pending answer, or has ended."""
        self._at_end = False
        """Whether the client has closed its sending side."""
        self._refusal: ChurnError | None = None
        self._last: RequestResponseCycle | None = None
        """The request whose answer shall be the last."""
        self._answers_left = ANSWERS_MAX * (_SPREAD + next(self.opened) % _SPREAD) // (2 * _SPREAD)

    @property
    def is_answering(self) -> bool:
        """Whether an answer is pending."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_admitted(self) -> bool:
        """Whether a key has admitted a request of it, also one whose answer is still pending."""
        return self._clock is self.limits.admitted or bool(self.cycle and self.cycle.scope["state"].get(KNOWN))

    @property
    def is_ahead(self) -> bool:
        """Whether it has pipelined requests, or does not read its answer."""
        return bool(self._held) or self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first head. Beyond the most connections, one is closed first."""
        super().connection_made(transport)
        self._way = _Way(transport, self._leave)
        if len(self.connections) > self.limits.connections:
            self._first_to_go().make_room()
        if not transport.is_closing():
            self.limits.unadmitted[self] = None
            self._clock.set(self, self.limits.head_s)

    def _first_to_go(self) -> HttpProtocol:
        """Return the connection to close for this new one, itself if there is no other.

        In this order: one that was never admitted and owes something, has pipelined requests or does not read its
        answer, or is any other; one that was admitted and owes something.
        """
        unadmitted, known = self.limits.unadmitted, self.limits.admitted
        return (
            next((each for each in self.limits.not_admitted if not each.is_admitted), None)
            or next((each for each in unadmitted if each.is_ahead and not each.is_admitted), None)
            or next((each for each in unadmitted if not each.is_admitted), None)
            or known.oldest()
            or self.limits.not_admitted.oldest()
            or self
        )

    def make_room(self) -> None:
        """Close the connection at once."""
        self._clock.clear(self)
        self.limits.unadmitted.pop(self, None)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection from the shared state."""
        self._clock.clear(self)
        self.limits.writing.clear(self)
        self.limits.unadmitted.pop(self, None)
        self._drop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the received bytes, up to the end of one request; hold or drop what follows.

        A malformed or unbounded request is refused with the common error body.
        """
        if self._deaf:
            return
        if self._held or (self._whole and self.is_answering):
            self._hold(data)
        else:
            self._take(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return whether to stay open: a client that closed its sending side may wait for its answers."""
        self._at_end = True
        return self._whole and self.is_answering and not self.transport.is_closing()

    def _take(self, data: bytes) -> None:
        at, size = 0, len(data)
        while at < size and not self._deaf:
            if self._whole and self.is_answering:
                self._hold(data[at:])
                return
            end = self._parts.end(data, at)
            self._more = end < size
            self._parse(data[at:end])
            at = end
        if not (self._whole or self._deaf):
            # Keeps a deadline that is already set.
            self._clock.set(self, self.limits.head_s if self._in_head else self.limits.answer_s)

    def _parse(self, part: bytes) -> None:
        self._frame_bytes += len(part)
        try:
            self.parser.feed_data(part)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError) as error:
            if self._upgrading and isinstance(error, httptools.HttpParserUpgrade):
                # The parser takes the offer for accepted: it would parse neither a body nor another request.
                head = self._head_without_upgrade()
                self._upgrading = False
                self.parser = httptools.HttpRequestParser(self)
                self._frame_bytes = 0
                self._parse(head)
                return
            self._refuse(self._refusal or RequestMalformedError("this is no HTTP request", "speak HTTP/1.1"))
        else:
            if self._frame_bytes > (HEAD_MAX_BYTES if self._in_head else FRAMES_MAX_BYTES):
                self._refuse(_head_too_large())

    def _head_without_upgrade(self) -> bytes:
        line = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        lines = [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([line, *lines, b"", b""])

    def _hold(self, data: bytes) -> None:
        """Hold bytes that follow a request whose answer is pending, and stop reading until then."""
        if self._last is not None and not (self._last.response_started or self.is_shutting_down):
            self._last.keep_alive = True  # the next request is already here, and would be lost
        self._last = None
        if self.cycle.keep_alive and self.limits.held.take(len(data)):
            self._held += data
            self.flow.pause_reading()
        else:
            self._drop()
            self.cycle.keep_alive = False
            self._deaf = True

    def _drop(self) -> None:
        self.limits.held.give(len(self._held))
        self._held = b""

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head, self._whole = True, False
        self._clock.clear(self)

    def on_headers_complete(self) -> None:
        """Start to answer, unless the head is too large."""
        if self.parser.get_method() == b"CONNECT":
            # The parser would take all that follows for the tunnel's.
            self._refusal = RequestMalformedError(
                "CONNECT asks for a tunnel, and this is no proxy", "send another method"
            )
            raise self._refusal
        # The bytes counted so far may include the end of the request before: the size of this head is exact.
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value)
        if len(self.headers) > HEADERS_MAX or size > HEAD_MAX_BYTES:
            self._refusal = _head_too_large()
            raise self._refusal
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        if not self._parts.begin_body(self.headers):
            self._refusal = RequestMalformedError("the body has a transfer encoding next to chunked", "send it without")
            raise self._refusal
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", self._way)
        self._in_head = False
        self._answers_left -= 1
        self._last = None
        if self.is_shutting_down:
            self.cycle.keep_alive = False
        self._clock.clear(self)
        self.headers = []  # trailers of a chunked body are not headers

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; the gateway counts and times it."""
        self._frame_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        if self._upgrading:
            return
        super().on_message_complete()
        self._whole, self._frame_bytes = True, 0
        if not self.is_answering:
            self._rest()
            return
        self._clock.clear(self)
        # Only once its body is here: a client that is refused while it sends must be able to read why. And not while
        # another request waits.
        done = self._answers_left <= 0 and not self._more
        if done and self.cycle.keep_alive and not self.cycle.response_started:
            self.cycle.keep_alive = False
            self._last = self.cycle

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of the current body or the next head."""
        self.server_state.total_requests += 1
        self.cycle.body = bytearray()  # the unread rest of a body
        if self._deaf or self.transport.is_closing():
            return
        if self._clock is self.limits.not_admitted and self.cycle.scope["state"].get(KNOWN):
            self._clock.clear(self)
            self._clock = self.limits.admitted
            self.limits.unadmitted.pop(self, None)
        self._rest()
        if held := self._held:
            self._drop()
            self._take(held)
        if not self._held:
            if self._at_end and not self.is_answering:
                self.transport.close()
            else:
                self.flow.resume_reading()

    def _rest(self) -> None:
        """Set the deadline for what the client owes after its answer."""
        self._clock.clear(self)
        self._clock.set(self, self.limits.idle_s + _GRACE_S if self._whole else self.limits.head_s)

    def pause_writing(self) -> None:
        """Start the deadline for the client to read its answer."""
        super().pause_writing()
        self.limits.writing.set(self, self.limits.answer_s)

    def resume_writing(self) -> None:
        """Clear the deadline of the answer."""
        super().resume_writing()
        self.limits.writing.clear(self)

    def shutdown(self) -> None:
        """Answer the requests in progress and those on their way; then close."""
        if self.is_answering:
            self.cycle.keep_alive = False
        self.loop.call_later(_LINGER_S, self._leave_idle)

    def _should_upgrade(self) -> bool:
        return False

    def _leave_idle(self) -> None:
        if not self.is_answering:
            self._leave()

    def _leave(self) -> None:
        """Close the sending side, and the connection once the client has closed, or a moment later.

        If it were closed at once, with bytes unread or on their way, the kernel would reset the connection, and the
        client might lose the answer that was sent.
        """
        self._deaf = True
        self._drop()
        self._clock.clear(self)
        if self._at_end or self.transport.is_closing() or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._clock.set(self, _LINGER_S)

    def on_header_timeout(self) -> None:
        """Handle an expired deadline: refuse, wait or close."""
        if self._deaf:
            self.transport.close()
        elif self.is_answering:
            self._clock.set(self, self.limits.head_s)  # a body: the gateway answers that it is late
        elif self._in_head:
            self._refuse(RequestTimeoutError(f"the head did not arrive within {self.limits.head_s} s", "send it again"))
        elif self._whole and self._is_readable():
            self._clock.set(self, self.limits.head_s)  # it arrived in time, and has not been read yet
        else:
            self._leave()

    def on_write_timeout(self) -> None:
        """Abort: the client did not read its answer."""
        self.transport.abort()

    def _is_readable(self) -> bool:
        ready = select.poll()
        ready.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(ready.poll(0))

    def _refuse(self, error: ChurnError) -> None:
        if self._deaf or self.transport.is_closing():
            return
        self._deaf = True
        if not self._in_head and not self._whole:
            # Of a body. An answer that has begun is completed; one that was sent stays the only one.
            if self.is_answering and self.cycle.response_started:
                self.cycle.keep_alive = False
                return
            if not self.is_answering:
                self._leave()
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
        if self.is_answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._leave()


class _Way:
    """The transport of an answer: closing it ends the connection in order."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


def _head_too_large() -> HeadTooLargeError:
    return HeadTooLargeError(
        f"the head exceeds {HEAD_MAX_BYTES >> 10} KiB or {HEADERS_MAX} headers", "send fewer or shorter headers"
    )
