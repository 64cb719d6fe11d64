"""The floor: uvicorn and nothing behind it. It reads the body and sends the same bytes each time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from configs.settings import load_settings
from tests.bench.serving.world import ANSWER

BODY = (load_settings().home / ANSWER).read_bytes()
HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())],
}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        while scope["type"] == "lifespan":
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
        return
    while (await receive()).get("more_body"):
        pass
    await send(HEAD)
    await send({"type": "http.response.body", "body": BODY})
