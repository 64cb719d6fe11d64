"""Use of httpx shared by both clients: connection options, and the mapping of its exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from bentos.client.retries import Clock, Failed, Reply, Send

_HEADERS: Final = {"accept": "application/json", "user-agent": "churn-client"}
_JSON: Final = {"content-type": "application/json"}


def options(base_url: str, api_key: str | None, concurrency_max: int) -> dict[str, Any]:
    """Return the arguments of httpx's client. Raises ValueError if one is unusable, without repeating the key."""
    if concurrency_max < 1:
        raise ValueError("concurrency_max must be at least 1")
    url = httpx.URL(base_url)
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("base_url must begin with http:// or https:// and name a host")
    headers = dict(_HEADERS)
    if api_key is not None:
        # httpx would refuse anything else later, with the whole header in its text.
        if not api_key or not all("!" <= character <= "~" for character in api_key):
            raise ValueError("api_key must be printable ASCII without spaces")
        headers["authorization"] = f"Bearer {api_key}"
    # A redirect is not an answer of the service, and would send the ids elsewhere.
    # The client's slots bound its connections. A bound of the pool too would be a second queue, in which the time-outs
    # of a request run already; and idle connections beyond httpx's default of 20 would be closed after each answer.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=concurrency_max)
    return {"base_url": url, "headers": headers, "follow_redirects": False, "limits": limits}


def arguments(step: Send) -> dict[str, Any]:
    """Return the arguments of httpx's ``stream`` for a step."""
    request = step.request
    return {
        "method": "GET" if request.content is None else "POST",
        "url": request.path,
        "content": request.content,
        "headers": None if request.content is None else _JSON,
        "timeout": httpx.Timeout(step.read_s, connect=step.connect_s, pool=None),
    }


def reply(response: httpx.Response, content: bytes) -> Reply:
    """Return httpx's response as a Reply."""
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, content)


def failed(broken: httpx.TransportError) -> Failed:
    """Return an exception of httpx as Failed; raise it again if it is a mistake of this code."""
    match broken:
        case httpx.ReadTimeout() | httpx.WriteTimeout():
            return Failed("time", broken)
        case httpx.LocalProtocolError() | httpx.UnsupportedProtocol():
            raise broken
        case _:
            return Failed("connection", broken)


def refuse_late(step: Send, clock: Clock) -> None:
    """Raise httpx.ReadTimeout once a step's time is up: httpx only limits the pause between two pieces."""
    if clock() >= step.ends_at:
        raise httpx.ReadTimeout("the answer was not complete in time")
