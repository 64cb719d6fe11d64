"""Retry policy of one request: when to repeat it, how long to wait, when to give up. Pure.

The rules are written once, as a generator that yields the next step (:class:`Send`, :class:`Wait`) and is sent its
result; the blocking and the asynchronous client only execute the steps. No socket and no clock is used here.

Every request may be repeated, POST too: its only effect in the service is another receipt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, Literal, TypeAlias, TypeVar

from bentos.client.errors import NO_ANSWER, ChurnServiceError, UnavailableError, error_of_answer

Result = TypeVar("Result")
Clock = Callable[[], float]
"""Monotonic clock, seconds from any fixed instant."""

REPEATED: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,  # a proxy's status for a connection that failed
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
NEEDS_NEW_DATA: Final = "features_expired"
"""The one error of status 503 that concerns a customer and not the service: waiting some seconds does not help."""


@dataclass(frozen=True)
class Patience:
    """Time-outs and retries of a call.

    A pause is drawn from [0, min(pause_max_s, pause_first_s * 2^n)] after the n-th failure (n from 0): "full jitter" of
    Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. If the service sends Retry-After, that is
    waited first. If it asks for more than ``retry_after_max_s``, or if the pause would end after ``total_s``, the call
    fails at once: an earlier attempt would be refused.

    Parameters
    ----------
    connect_s
        Time-out of a connection attempt, seconds.
    read_s
        Time-out between two pieces of an answer, seconds. A request that timed out here is not repeated: the
        service may still be working on it.
    total_s
        For one request with its retries and pauses, seconds. Checked between the pieces of an answer.
    attempts_max
        How often a request is sent at most.
    pause_first_s, pause_max_s
        Bounds of the pauses, seconds.
    retry_after_max_s
        The longest wait that the service may ask for, seconds.

    Raises
    ------
    ValueError
        If a time-out or ``attempts_max`` is not positive, or a pause is negative.

    Examples
    --------
    >>> from bentos.client import Patience
    >>> Patience(total_s=5.0, attempts_max=2).read_s
    10.0
    >>> Patience(attempts_max=0)
    Traceback (most recent call last):
        ...
    ValueError: connect_s, read_s, total_s and attempts_max must be positive
    """

    connect_s: float = 2.0
    read_s: float = 10.0
    total_s: float = 30.0
    attempts_max: int = 4
    pause_first_s: float = 0.1
    pause_max_s: float = 5.0
    retry_after_max_s: float = 10.0

    def __post_init__(self) -> None:
        if min(self.connect_s, self.read_s, self.total_s, self.attempts_max) <= 0:
            raise ValueError("connect_s, read_s, total_s and attempts_max must be positive")
        if min(self.pause_first_s, self.pause_max_s, self.retry_after_max_s) < 0:
            raise ValueError("a pause can't be negative")


@dataclass(frozen=True)
class Request:
    """A request: ``content`` is JSON, None for a GET."""

    path: str
    content: bytes | None = None


@dataclass(frozen=True)
class Send:
    """Send ``request``; the answer must be complete at ``ends_at`` (of the clock)."""

    request: Request
    connect_s: float
    read_s: float
    ends_at: float


@dataclass(frozen=True)
class Wait:
    """Wait for ``seconds``."""

    seconds: float


@dataclass(frozen=True)
class Reply:
    """An answer, whatever its status; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class Failed:
    """No answer: the connection failed, or the answer timed out."""

    kind: Literal["connection", "time"]
    cause: Exception


Outcome: TypeAlias = Reply | Failed | None
"""The result of a step; None for a wait."""
Steps: TypeAlias = Generator[Send | Wait, Outcome, Result]


def exchange(request: Request, patience: Patience, clock: Clock, rng: random.Random) -> Steps[Reply]:
    """Yield the steps of one request; return its answer of status 200.

    Raises
    ------
    ChurnServiceError
        The error of the last attempt.
    """
    ends_at = clock() + patience.total_s
    failures = 0
    while True:
        left = max(ends_at - clock(), 0.001)
        outcome = yield Send(request, min(patience.connect_s, left), min(patience.read_s, left), ends_at)
        if outcome is None:
            raise RuntimeError("a request was sent and nothing came of it")
        if isinstance(outcome, Reply) and outcome.status == HTTPStatus.OK:
            return outcome
        failure, again = _classified(outcome)
        pause = _pause(failure, patience, failures, rng)
        failures += 1
        if not again or pause is None or failures >= patience.attempts_max or clock() + pause >= ends_at:
            raise failure from (outcome.cause if isinstance(outcome, Failed) else None)
        yield Wait(pause)


def _classified(outcome: Reply | Failed) -> tuple[ChurnServiceError, bool]:
    """Return the error, and whether a retry may succeed."""
    if isinstance(outcome, Reply):
        failure = error_of_answer(outcome.status, outcome.content, _retry_after_s(outcome.headers))
        return failure, outcome.status in REPEATED and failure.error != NEEDS_NEW_DATA
    if outcome.kind == "time":
        return _unreachable(
            "the service did not answer in time", "ask for fewer customers, or with more patience"
        ), False
    why = type(outcome.cause).__name__
    return _unreachable(f"no connection to the service ({why})", "check the address, and that it runs"), True


def _unreachable(message: str, hint: str) -> UnavailableError:
    return UnavailableError(message, hint, error=NO_ANSWER, status=None)


def _pause(failure: ChurnServiceError, patience: Patience, failures: int, rng: random.Random) -> float | None:
    """Return how long to wait, seconds; None if the service asks for more than is left."""
    jitter = rng.uniform(0, min(patience.pause_max_s, patience.pause_first_s * 2**failures))
    asked = failure.retry_after_s or 0.0
    return None if asked > patience.retry_after_max_s else asked + jitter


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the wait of Retry-After, seconds; None without it, or if it can't be parsed.

    This service sends seconds; a proxy may send an instant, which is then compared with the answer's own Date: the
    clock of this machine may be wrong.
    """
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdecimal():
        return float(said)
    until, at = _instant(said), _instant(headers.get("date", ""))
    return None if until is None or at is None else max((until - at).total_seconds(), 0.0)


def _instant(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    # A date without a zone can't be subtracted from one with a zone.
    return found if found.tzinfo is not None else None
