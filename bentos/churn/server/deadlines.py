"""Byte budgets, and deadlines that cost no timer each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

Thing = TypeVar("Thing")

_LOOK_S: Final = 0.25


class Budget:
    """A number of bytes that may be held at once, for one event loop."""

    __slots__ = ("_limit", "taken")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0

    def take(self, size: int) -> bool:
        """Take ``size`` bytes and return True, or take none and return False if fewer are left."""
        if self.taken + size > self._limit:
            return False
        self.taken += size
        return True

    def give(self, size: int) -> None:
        """Return ``size`` bytes to the budget."""
        self.taken -= size


class Deadlines(Generic[Thing]):
    """Deadlines of objects, for one event loop.

    A timer of the event loop costs some microseconds per request, and nearly all are cancelled unused. Here setting and
    clearing a deadline is a dictionary operation; one timer checks the remaining ones, ``_LOOK_S`` late at most.

    Parameters
    ----------
    late
        Called with each object whose deadline has passed; the deadline is cleared before.
    """

    def __init__(self, late: Callable[[Thing], None]) -> None:
        self._late = late
        self._due: dict[Thing, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def set(self, thing: Thing, seconds: float) -> None:
        """Set a deadline in ``seconds`` from now; an object that has one keeps it."""
        if thing in self._due:
            return
        self._due[thing] = time.monotonic() + seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def clear(self, thing: Thing) -> None:
        """Clear the deadline of ``thing``, if it has one."""
        self._due.pop(thing, None)

    def __len__(self) -> int:
        return len(self._due)

    def __iter__(self) -> Iterator[Thing]:
        return iter(self._due)

    def oldest(self) -> Thing | None:
        """Return the object whose deadline was set first, None without any."""
        return next(iter(self), None)

    def _look(self) -> None:
        now = time.monotonic()
        for thing in [each for each, due in self._due.items() if due <= now]:
            self.clear(thing)
            self._late(thing)
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look) if self._due else None
