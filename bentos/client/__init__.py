"""Python client of the HTTP service: typed answers, time-outs, and retries where they can help.

Loads httpx and pydantic, but no model code::

    with ChurnClient("http://127.0.0.1:3000", api_key=key) as client:
        answer = client.predict("7590-VHVEG")

See docs/journeys/app-developer.md.
"""

from bentos.client.async_client import AsyncChurnClient
from bentos.client.client import ChurnClient
from bentos.client.errors import (
    ChurnServiceError,
    CustomerUnknownError,
    CustomerWithdrawnError,
    EventLoopError,
    NotAllowedError,
    OverloadedError,
    RequestRefusedError,
    UnavailableError,
    UnexpectedAnswerError,
)
from bentos.client.retries import Patience

__all__ = [
    "AsyncChurnClient",
    "ChurnClient",
    "ChurnServiceError",
    "CustomerUnknownError",
    "CustomerWithdrawnError",
    "EventLoopError",
    "NotAllowedError",
    "OverloadedError",
    "Patience",
    "RequestRefusedError",
    "UnavailableError",
    "UnexpectedAnswerError",
]
