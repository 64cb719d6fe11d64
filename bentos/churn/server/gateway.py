"""The gateway: ASGI middleware that every request passes before a route. Pure ASGI.

Wraps the server's application. See docs/decisions/0027-front-door.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.churn.auth.authenticator import HEADERS, ApiKeyAuthenticator, is_loopback
from bentos.churn.auth.rights import BROWSED, OPEN_PATHS, PAGE, SCORING, Right, right_of, template
from bentos.churn.errors import (
    BodyTooLargeError,
    ContentEncodingError,
    HostRefusedError,
    KeyMissingError,
    OverloadedError,
    RequestTimeoutError,
    RouteUnknownError,
    response_to,
)
from bentos.churn.metrics import ServiceMetrics
from bentos.churn.server.content_codings import ACCEPTED, COMPRESSED_MIN_BYTES, gzipped, offers_gzip
from bentos.churn.server.uploads import Aside, Uploads
from bentos.prediction.errors import internal
from configs.errors import ChurnError
from configs.settings import ServingSettings

log = logging.getLogger(__name__)

SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
FIXED_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_NAMES: Final = frozenset(name for name, _ in FIXED_HEADERS)
_POLICY: Final = b"content-security-policy"
_READ: Final = HEADERS | {b"host", b"content-length", b"content-encoding", b"accept-encoding", b"expect"}
_CLOSE: Final = (b"connection", b"close")
_VARY: Final = (b"vary", b"accept-encoding")
KNOWN: Final = "churn.known"
"""Key of a scope's state, set when a key was required for the request, and a valid one was sent."""
CODERS: Final = 2
"""Bodies decoded, and answers compressed, at once."""


class GatewayMiddleware:
    """Passes every HTTP request to ``own`` and never to the server's own routes.

    BentoML adds pages to each service (`/`, `/docs.json`, `/schema.json`, static files) that load scripts from other
    hosts and answer errors in other shapes; behind the gateway they are not reachable. ``app`` still gets the lifespan.
    The gateway checks the key, refuses work beyond the worker's capacity, reads the whole body within limits of size
    and time (only where a route takes one), answers HEAD as GET without the body, sets headers, compresses a large
    answer, counts the answer, and catches every exception, which is logged by its place alone.

    Parameters
    ----------
    app
        The server's application.
    own
        The application that gets the requests.
    routes
        Path templates that metrics may name.
    authenticator
        Checks keys; None admits every request.
    """

    def __init__(
        self,
        app: ASGIApp,
        own: ASGIApp,
        metrics: ServiceMetrics,
        serving: ServingSettings,
        routes: Iterable[str],
        authenticator: ApiKeyAuthenticator | None = None,
    ) -> None:
        self._inner = app
        self._own = own
        self._metrics = metrics
        self._serving = serving
        self._routes = frozenset(routes)
        self._access = authenticator
        self._working = 0
        self._coders: CapacityLimiter | None = None
        self._uploads = Uploads(serving, self._aside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; the lifespan goes to the server's own application."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        started = time.perf_counter()
        path = scope["path"]
        headers = {name: value for name, value in scope["headers"] if name in _READ}
        answer = _Answer(send, headers, self._aside, page=path == PAGE, bodiless=scope["method"] == "HEAD")
        try:
            right = self._authorized(scope, headers, path, started)
            body = b""
            # The body of any other request is dropped as it comes.
            if right == "predict" and scope["method"] == "POST" and path in self._routes:
                body = await self._uploads.read(scope, headers, receive)
                answer.last = False
            asked = {**scope, "method": "GET"} if answer.bodiless else scope
            await (self._work if right in SCORING else self._own)(asked, _replay(body, receive), answer)
        except ChurnError as refused:
            await self._refuse(refused, path, answer)
        except ClientDisconnect:
            return
        except Exception as broken:  # noqa: BLE001 - the last handler: anything else would be logged with its values
            error = internal(broken)
            if not answer.status:  # else the application has already answered
                self._metrics.refusals.labels(error.error).inc()
                await response_to(error, self._serving.retry_after_s)(scope, receive, answer)
        finally:
            if answer.status:
                self._metrics.observe_request(
                    template(path, self._routes), scope["method"], answer.status, time.perf_counter() - started
                )

    def _authorized(self, scope: Scope, headers: Mapping[bytes, bytes], path: str, now: float) -> Right | None:
        """Check the head of a request; return the right that it needed, or raise its refusal."""
        if path in OPEN_PATHS:
            return None
        right = right_of(path)
        if self._access is not None:
            server = scope.get("server")
            self._access.authorize(headers, right, server[0] if server else None, now)
            if self._access.requires_key:
                scope.setdefault("state", {})[KNOWN] = True
            # A request without a key may come from a page of another site, in a browser of this machine, whose name was
            # made to resolve to this address (DNS rebinding). It can't send another Host than that name.
            elif server and not _is_here(headers.get(b"host", b"")):
                raise HostRefusedError
        if not path.isprintable():
            # A router's pattern may match before a line's end: "/predict\n" would reach its route without its right.
            raise RouteUnknownError("there is no such route", "see /openapi.json for the routes")
        if right in SCORING:
            self._room()
        return right

    def _room(self) -> None:
        if self._working >= self._serving.concurrency_max:
            raise OverloadedError("the service has as much to do as it can", "repeat it in a moment")

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._room()  # again: others may have started while the body arrived
        self._working += 1
        try:
            await self._own(scope, receive, send)
        finally:
            self._working -= 1

    async def _refuse(self, refused: ChurnError, path: str, answer: _Answer) -> None:
        self._metrics.refusals.labels(refused.error).inc()
        response = response_to(refused, self._serving.retry_after_s)
        if isinstance(refused, KeyMissingError):
            # Only a browser at the page shall prompt for a password; elsewhere a prompt would interrupt a program's
            # page.
            challenge = b'Basic realm="churn", charset="UTF-8"' if path in BROWSED else b"Bearer"
            response.raw_headers.append((b"www-authenticate", challenge))
        if isinstance(refused, ContentEncodingError):
            response.raw_headers.append((b"accept-encoding", ACCEPTED))
        # The server drops the rest of a body by itself. But if reading was stopped, the rest may never come: the next
        # request would be taken for it.
        if isinstance(refused, BodyTooLargeError | RequestTimeoutError):
            answer.last = True
        await answer({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await answer({"type": "http.response.body", "body": response.body})

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._inner(scope, receive, send)

    async def _aside(self, work: Callable[[], bytes]) -> bytes:
        """Run ``work`` in a thread: a large body would delay every other request."""
        if self._coders is None:
            self._coders = CapacityLimiter(CODERS)
        return await anyio.to_thread.run_sync(work, limiter=self._coders)


class _Answer:
    """Sends one answer: sets headers, compresses a large one if the client accepts gzip, keeps the status.

    Parameters
    ----------
    send
        The server's ``send``.
    headers
        Of the request.
    aside
        Runs the compression.
    page
        Whether the answer is that of the page for people.
    bodiless
        Whether the body is left out: the request was HEAD. The headers are those of GET, Content-Length included.
    """

    __slots__ = ("_aside", "_headers", "_large", "_page", "_send", "bodiless", "last", "status")

    def __init__(self, send: Send, headers: Mapping[bytes, bytes], aside: Aside, *, page: bool, bodiless: bool) -> None:
        self._send = send
        self._headers = headers
        self._aside = aside
        self._page = page
        self.bodiless = bodiless
        self._large: Message | None = None
        """The head of an answer whose body is compressed first."""
        self.status = 0
        self.last = b"expect" in headers
        """Whether the connection ends with it. A client that waits for "100 Continue" may never send its body: the next
        request would be taken for it.
        """

    async def __call__(self, message: Message) -> None:
        """Send one message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = headers = _fixed(message.get("headers", ()), page=self._page)
            if self.last:
                headers.append(_CLOSE)
            if _is_large(headers):
                headers.append(_VARY)
                if offers_gzip(self._headers.get(b"accept-encoding", b"")):
                    self._large = message
                    return
        elif (head := self._large) is not None:
            self._large = None
            if not message.get("more_body", False):
                body = message["body"]
                message["body"] = body = await self._aside(lambda: gzipped(body))
                head["headers"] = [header for header in head["headers"] if header[0] != b"content-length"]
                head["headers"] += [(b"content-encoding", b"gzip"), (b"content-length", str(len(body)).encode())]
            await self._send(head)
        if self.bodiless and "body" in message:
            message["body"] = b""
        await self._send(message)


@lru_cache(maxsize=256)
def _is_here(host: bytes) -> bool:
    """Return whether a Host header names this machine, with or without a port, or is empty.

    Browsers always send it.
    """
    name = host.decode("latin-1").lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    return not host or is_loopback(name)


def _fixed(headers: Iterable[tuple[bytes, bytes]], *, page: bool) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers with the fixed ones in place of its own; the page keeps its own policy."""
    if page and any(name == _POLICY for name, _ in headers):
        kept = [header for header in headers if header[0] == _POLICY or header[0] not in _NAMES]
        return kept + [header for header in FIXED_HEADERS if header[0] != _POLICY]
    return [header for header in headers if header[0] not in _NAMES] + FIXED_HEADERS


def _is_large(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if name == b"content-length":
            return int(value) >= COMPRESSED_MIN_BYTES
    return False


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that yields the body that was read, then the messages of the connection."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
