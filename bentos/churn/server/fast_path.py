"""Fast path for the busiest routes: calls the route's function without router and framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from configs.errors import ChurnError

FastRoutes = Mapping[str, Callable[[str, bytes], Awaitable[bytes]]]
"""Path of a POST route -> function of the declared content type and the body that returns the JSON answer."""


class FastPathMiddleware:
    """Answers the routes of ``lane`` itself, and passes every other request to ``app``.

    ``refused`` returns the answer to an error, as for every other route.
    """

    def __init__(self, app: ASGIApp, routes: FastRoutes, refused: Callable[[ChurnError], Response]) -> None:
        self._app = app
        self._lane = routes
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        answer = self._lane.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if answer is None:
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        try:
            body = await answer(declared.decode("latin-1"), await _body(receive))
        except ChurnError as refusal:
            await self._refused(refusal)(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)
