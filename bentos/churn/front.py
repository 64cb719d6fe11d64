"""The front door: what every request passes before a route sees it. Pure ASGI."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.churn.errors import BodyTooLargeError, RequestTimeoutError, internal, response_to
from bentos.churn.meters import Meters
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


class FrontDoor:
    """Hands every HTTP request to ``own`` and never to the server's own routes.

    BentoML adds pages to each service (`/`, `/docs.json`, `/schema.json`, static files) that load scripts from
    other hosts and answer errors in other shapes; behind this door they don't exist. ``inner`` still gets the
    lifespan. On the way the body is read whole within a size and a time, headers are set, the answer is counted,
    and an exception that nobody caught ends here, logged by place alone.
    """

    def __init__(
        self, app: ASGIApp, own: ASGIApp, meters: Meters, serving: ServingSettings, routes: Iterable[str]
    ) -> None:
        self._inner = app
        self._own = own
        self._meters = meters
        self._serving = serving
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request; anything but HTTP goes to the server's own application."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def finish(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            body = await self._body(scope, receive)
            await self._own(scope, _replay(body, receive), finish)
        except ChurnError as refused:
            self._meters.refusals.labels(refused.error).inc()
            response = response_to(refused, self._serving.retry_after_s)
            # What is left of the body would be taken for the next request.
            response.headers["Connection"] = "close"
            await response(scope, receive, finish)
        except ClientDisconnect:
            return
        except Exception as broken:  # noqa: BLE001 - the last line: anything else would be logged with its values
            error = internal(broken)
            if not status:
                await response_to(error, self._serving.retry_after_s)(scope, receive, finish)
        finally:
            if status:
                route = scope["path"] if scope["path"] in self._routes else "other"
                self._meters.answered(route, scope["method"], status, time.perf_counter() - started)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Return the whole body. A declared length is not trusted: what arrives is counted."""
        limit = self._serving.body_size_max_kb * 1024
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "0")
        too_large = BodyTooLargeError(
            f"the body exceeds {self._serving.body_size_max_kb} KiB", "ask for fewer customers at a time"
        )
        # A client that waits for "100 Continue" has sent nothing yet: it is told at once.
        if declared.isdecimal() and int(declared) > limit and "100-continue" in headers.get("expect", "").lower():
            raise too_large
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._serving.request_timeout_s):
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
        except TimeoutError:
            raise RequestTimeoutError(
                f"the body did not arrive within {self._serving.request_timeout_s} s", "send it again"
            ) from None
        if size > limit:
            raise too_large
        return b"".join(chunks)


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
