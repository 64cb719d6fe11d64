"""Read request bodies within limits of size, time and number, and decode them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from bentos.churn.errors import BodyTooLargeError, OverloadedError, RequestTimeoutError
from bentos.churn.server.content_codings import coding_of, decompressed
from bentos.churn.server.deadlines import Deadlines
from configs.settings import ServingSettings

DRAIN_MAX_BYTES: Final = 128 * 1024 * 1024
"""Most bytes of a refused body that are read and dropped: a client that sends before it reads then sees the answer."""
Aside = Callable[[Callable[[], bytes]], Awaitable[bytes]]
"""Runs a function where it does not block the event loop."""


class Uploads:
    """Reads the bodies of one worker's requests.

    Parameters
    ----------
    serving
        A body has ``body_size_max_kb``, as sent and decoded, and ``request_timeout_s``. At most 2 x ``concurrency_max``
        are received or decoded at once: beyond it the one that has been received for longest is cancelled, or the new
        one is refused if all are being decoded.
    aside
        Runs the decoding of a body.
    """

    def __init__(self, serving: ServingSettings, aside: Aside) -> None:
        self._limit_kb = serving.body_size_max_kb
        self._limit = serving.body_size_max_kb * 1024
        self._within_s = serving.request_timeout_s
        self._most = 2 * serving.concurrency_max
        self._aside = aside
        self._waiting = Deadlines[asyncio.Task[Any]](self._late)
        self._decoding = 0
        """Number of bodies that have arrived, and are decoded or wait for it."""
        self._cuts: dict[asyncio.Task[Any], RequestTimeoutError] = {}
        """Why a task that waits for its body was cancelled."""

    async def read(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Return the whole body, decoded. Neither a declared length nor a compressed one is trusted.

        Raises
        ------
        BodyTooLargeError, RequestTimeoutError
            If it exceeds its limits; then the rest of it may never come.
        ContentEncodingError, RequestInvalidError
            If it is in an unsupported encoding, or not in the declared one.
        OverloadedError
            If as many bodies as may be at once are being decoded.
        ClientDisconnect
            If the connection ends before.
        """
        if b"content-encoding" not in headers:
            return await self._sent(headers, receive)
        coding = coding_of(value for name, value in scope["headers"] if name == b"content-encoding")
        sent = await self._sent(headers, receive)
        if coding == "identity":
            return sent
        self._decoding += 1
        try:
            body = await self._aside(lambda: decompressed(sent, coding, self._limit))
        finally:
            self._decoding -= 1
        if len(body) > self._limit:
            raise self._too_large()
        return body

    async def _sent(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Return the whole body as it arrives, not decoded; counts the bytes that arrive."""
        limit = self._limit
        declared = headers.get(b"content-length", b"0")
        # A client that waits for "100 Continue" has sent nothing yet: it is refused at once.
        if declared.isdigit() and int(declared) > limit and b"expect" in headers:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in a coroutine
        if len(self._waiting) + self._decoding >= self._most:
            self._make_room()
        self._waiting.set(task, self._within_s)
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
            if task not in self._cuts:
                raise
            task.uncancel()
            raise self._cuts[task] from None
        finally:
            self._waiting.clear(task)
            self._cuts.pop(task, None)
        if size > limit:
            raise self._too_large()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _late(self, task: asyncio.Task[Any]) -> None:
        self._cut(task, f"the body did not arrive within {self._within_s} s")

    def _make_room(self) -> None:
        oldest = self._waiting.oldest()
        if oldest is None:
            raise OverloadedError("as many bodies as may be at once are being decoded", "repeat it in a moment")
        self._waiting.clear(oldest)
        self._cut(oldest, "the body was on its way for longest, and too many others are on theirs")

    def _cut(self, task: asyncio.Task[Any], why: str) -> None:
        self._cuts[task] = RequestTimeoutError(why, "send it again")
        task.cancel()

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"the body exceeds {self._limit_kb} KiB", "ask for fewer customers at a time")
