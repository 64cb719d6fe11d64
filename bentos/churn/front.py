"""The front door: what every request passes before a route sees it. Pure ASGI."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.churn.access import HEADERS, Access, is_loopback
from bentos.churn.errors import (
    BodyTooLargeError,
    HostRefusedError,
    KeyMissingError,
    OverloadedError,
    RequestTimeoutError,
    RouteUnknownError,
    internal,
    response_to,
)
from bentos.churn.limits import Deadlines
from bentos.churn.meters import Meters
from bentos.churn.rights import OPEN_PATHS, PAGE, SCORING, right_of, template
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
DRAIN_MAX_BYTES: Final = 128 * 1024 * 1024
"""How much of a refused body is read and dropped, so that a client which sends before it reads sees the answer."""

FIXED_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_NAMES: Final = frozenset(name for name, _ in FIXED_HEADERS)
_POLICY: Final = b"content-security-policy"
_READ: Final = HEADERS | {b"host", b"content-length", b"transfer-encoding", b"expect"}
_BODILESS: Final = frozenset({"GET", "HEAD"})
_CLOSE: Final = (b"connection", b"close")


class FrontDoor:
    """Hands every HTTP request to ``own`` and never to the server's own routes.

    BentoML adds pages to each service (`/`, `/docs.json`, `/schema.json`, static files) that load scripts from
    other hosts and answer errors in other shapes; behind this door they don't exist. ``app`` still gets the
    lifespan. On the way the key is judged, work beyond what a worker can do is turned away, the body is read whole
    within a size and a time, headers are set, the answer is counted, and an exception that nobody caught ends here,
    logged by place alone.

    Parameters
    ----------
    app
        The server's application.
    own
        Ours.
    routes
        Path templates that metrics may name.
    access
        Judges keys; None lets everybody pass.
    """

    def __init__(
        self,
        app: ASGIApp,
        own: ASGIApp,
        meters: Meters,
        serving: ServingSettings,
        routes: Iterable[str],
        access: Access | None = None,
    ) -> None:
        self._inner = app
        self._own = own
        self._meters = meters
        self._serving = serving
        self._routes = frozenset(routes)
        self._access = access
        self._working = 0
        self._late: set[asyncio.Task[Any]] = set()
        self._bodies = Deadlines[asyncio.Task[Any]](self._cut)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request; the lifespan goes to the server's own application."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        started = time.perf_counter()
        path = scope["path"]
        status = 0

        async def finish(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _fixed(message.get("headers", ()), page=path == PAGE)
            await send(message)

        try:
            receive, scoring = await self._received(scope, receive, path, started)
            if scoring:
                await self._work(scope, receive, finish)
            else:
                await self._own(scope, receive, finish)
        except ChurnError as refused:
            await self._answer(refused, scope, finish)
        except ClientDisconnect:
            return
        except Exception as broken:  # noqa: BLE001 - the last line: anything else would be logged with its values
            error = internal(broken)
            if not status:  # else the application has said so itself
                self._meters.refusals.labels(error.error).inc()
                await response_to(error, self._serving.retry_after_s)(scope, receive, finish)
        finally:
            if status:
                self._meters.answered(
                    template(path, self._routes), scope["method"], status, time.perf_counter() - started
                )

    async def _received(self, scope: Scope, receive: Receive, path: str, now: float) -> tuple[Receive, bool]:
        """Refuse by what the head says, then by the body; return what gives it, and whether answering it is work."""
        headers = {name: value for name, value in scope["headers"] if name in _READ}
        scoring = False
        if path not in OPEN_PATHS:
            right = right_of(path)
            if self._access is not None:
                server = scope.get("server")
                self._access.admit(headers, right, server[0] if server else None, now)
                # Whoever got in without a key may be a page of another site, in a browser of this machine, whose name
                # was made to lead here. It can't send another Host than that name.
                if not self._access.needed and server and not _is_here(headers.get(b"host", b"")):
                    raise HostRefusedError
            if not path.isprintable():
                # A router's pattern may end before a line's end: "/predict\n" would reach its route without its right.
                raise RouteUnknownError("there is no such route", "see /openapi.json for the routes")
            scoring = right in SCORING
            if scoring:
                self._room()
        if scope["method"] not in _BODILESS or b"content-length" in headers or b"transfer-encoding" in headers:
            receive = _replay(await self._body(headers, receive), receive)
        return receive, scoring

    def _room(self) -> None:
        if self._working >= self._serving.concurrency_max:
            raise OverloadedError("the service has as much to do as it can", "repeat it in a moment")

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._room()  # again: others came while the body did
        self._working += 1
        try:
            await self._own(scope, receive, send)
        finally:
            self._working -= 1

    async def _answer(self, refused: ChurnError, scope: Scope, send: Send) -> None:
        self._meters.refusals.labels(refused.error).inc()
        response = response_to(refused, self._serving.retry_after_s)
        if isinstance(refused, KeyMissingError):
            # Only a person's browser shall ask for a password; a program's would in the middle of a page.
            challenge = b'Basic realm="churn", charset="UTF-8"' if scope["path"] == PAGE else b"Bearer"
            response.raw_headers.append((b"www-authenticate", challenge))
        # The server drops the rest of a body by itself. But one that we stopped to read, or that the client holds back
        # until it is asked, may never come: then its place would be taken by the next request.
        if isinstance(refused, BodyTooLargeError | RequestTimeoutError) or any(
            name == b"expect" for name, _ in scope["headers"]
        ):
            response.raw_headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._inner(scope, receive, send)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """Return the whole body. A declared length is not trusted: what arrives is counted."""
        limit = self._serving.body_size_max_kb * 1024
        declared = headers.get(b"content-length", b"0")
        # A client that waits for "100 Continue" has sent nothing yet: it is told at once.
        if declared.isdigit() and int(declared) > limit and b"expect" in headers:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in a coroutine
        self._bodies.set(task, self._serving.request_timeout_s)
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                size += len(chunk)
                if size <= limit:
                    chunks.append(chunk)
                else:
                    chunks.clear()
                if not message.get("more_body", False) or size > DRAIN_MAX_BYTES:
                    break
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise RequestTimeoutError(
                f"the body did not arrive within {self._serving.request_timeout_s} s", "send it again"
            ) from None
        finally:
            self._bodies.clear(task)
            self._late.discard(task)
        if size > limit:
            raise self._too_large()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _cut(self, task: asyncio.Task[Any]) -> None:
        self._late.add(task)
        task.cancel()

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"the body exceeds {self._serving.body_size_max_kb} KiB", "ask for fewer customers at a time"
        )


@lru_cache(maxsize=256)
def _is_here(host: bytes) -> bool:
    """Return whether a Host header names this machine, with or without a port, or nothing: no browser leaves it out."""
    name = host.decode("latin-1").lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    return not host or is_loopback(name)


def _fixed(headers: Iterable[tuple[bytes, bytes]], *, page: bool) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer with ours in place of its own; the page knows its own script's hash."""
    if page and any(name == _POLICY for name, _ in headers):
        kept = [header for header in headers if header[0] == _POLICY or header[0] not in _NAMES]
        return kept + [header for header in FIXED_HEADERS if header[0] != _POLICY]
    return [header for header in headers if header[0] not in _NAMES] + FIXED_HEADERS


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body that was read, then what the connection says."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
